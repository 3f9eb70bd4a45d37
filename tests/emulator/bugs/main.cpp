// seeded_bugs                list the names
// seeded_bugs NAME off|on    run that kernel; exit code 0: right result, 1: wrong result, 2: the launch failed
#include <cstdio>
#include <cstring>
#include <exception>

#include "bugs.h"

int main(int count, char** arguments) {
  for (const Bug& bug : Bug::all()) {
    if (count < 3) printf("%s\n", bug.name);
    if (count < 3 || strcmp(bug.name, arguments[1]) != 0) continue;
    try {
      const bool right = bug.result_is_right(strcmp(arguments[2], "on") == 0);
      printf("%s\n", right ? "right" : "wrong result");
      return right ? 0 : 1;
    } catch (const std::exception& error) {
      printf("%s\n", error.what());
      return 2;
    }
  }
  return count < 3 ? 0 : 3;
}
