// The program:
// seeded_bugs                list the names
// seeded_bugs NAME off|on    run that kernel; exit code 0: right result, 1: wrong result, 2: the launch failed
#include <cstdio>
#include <cstring>
#include <exception>

#include "bugs.h"

/// 0: right result, 1: wrong result, 2: the launch failed, 3: no such bug. Python calls it too: sanitize.py.
extern "C" __attribute__((visibility("default"))) int run_seeded_bug(const char* name, bool on) {
  for (const Bug& bug : Bug::all()) {
    if (strcmp(bug.name, name) != 0) continue;
    try {
      const bool right = bug.result_is_right(on);
      printf("%s\n", right ? "right" : "wrong result");
      return right ? 0 : 1;
    } catch (const std::exception& error) {
      printf("%s\n", error.what());
      return 2;
    }
  }
  return 3;
}

int main(int count, char** arguments) {
  if (count == 3) return run_seeded_bug(arguments[1], strcmp(arguments[2], "on") == 0);
  for (const Bug& bug : Bug::all()) printf("%s\n", bug.name);
  return 0;
}
