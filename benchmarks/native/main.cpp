// Runs all cases, or those whose name begins with the argument. A line for each counted call, in order:
// operation/size/type/direction, how much work it is, of what.
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <string>

#include "driver.h"

/// What valgrind is told to collect in, and to write a result after (speed_count.py).
extern "C" __attribute__((noinline)) int64_t emogs_counted(const std::function<int64_t()>& kernel) {
  return kernel();
}

namespace emogs {

void Counter::operator()(const char* direction, int64_t work, const char* unit,
                         const std::function<int64_t()>& kernel) {
  const int64_t complaint = emogs_counted(kernel);
  if (complaint) {
    fprintf(stderr, "%s/%s: the kernel returned %lld\n", name, direction, static_cast<long long>(complaint));
    exit(1);
  }
  printf("%s/%s %lld %s\n", name, direction, static_cast<long long>(work), unit);
}

Case::Case(const char* case_name, std::function<void(Counter&)> case_run) : name(case_name), run(std::move(case_run)) {
  all().push_back(*this);
}

std::vector<Case>& Case::all() {
  static std::vector<Case> cases;
  return cases;
}

/// On a stack that begins at a page: what environment and arguments leave there must not decide how kernels' own arrays
/// are aligned.
__attribute__((noinline)) void run_all(const char* prefix) {
  alignas(4096) char page[4096];
  asm volatile("" : : "r"(page) : "memory");
  std::vector<Case> cases = Case::all();
  std::sort(cases.begin(), cases.end(), [](const Case& a, const Case& b) { return strcmp(a.name, b.name) < 0; });
  for (const Case& each : cases) {
    if (strncmp(each.name, prefix, strlen(prefix)) != 0) continue;
    Counter counter;
    counter.name = each.name;
    each.run(counter);
  }
}

}  // namespace emogs

int main(int count, char** arguments) {
  emogs::run_all(count > 1 ? arguments[1] : "");
}
