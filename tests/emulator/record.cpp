#include "record.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>
#include <utility>

namespace emulator {

void record_launch(const void* kernel) {
  const char* const path = getenv("EMOGS_EMULATOR_RECORD");
  if (!path || !*path) return;
  static std::mutex mutex;
  static std::set<std::pair<std::string, const void*>> recorded;
  const std::lock_guard<std::mutex> lock(mutex);
  Dl_info module;
  if (!recorded.emplace(path, kernel).second || !dladdr(kernel, &module)) return;
  FILE* const file = fopen(path, "a");
  if (!file) return;
  const size_t offset = static_cast<const char*>(kernel) - static_cast<const char*>(module.dli_fbase);
  fprintf(file, "0x%zx\n", offset);
  fclose(file);
}

}  // namespace emulator
