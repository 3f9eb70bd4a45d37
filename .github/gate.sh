#!/usr/bin/env bash
# gate.sh FILE COMMAND...: runs a gate, keeps in FILE what it says, shows that in the job's summary, and ends as the gate
# does; 77, which means that it cannot tell, is a warning and passes.
set -uo pipefail
file=$1
shift
mkdir -p "$(dirname "$file")"
"$@" 2>&1 | tee "$file"
code=$?
{ echo '```'; cat "$file"; echo '```'; } >> "${GITHUB_STEP_SUMMARY:-/dev/null}"
if [ "$code" -eq 77 ]; then
  echo "::warning::$(tail -n 1 "$file")"
  code=0
fi
exit "$code"
