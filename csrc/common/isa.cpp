// Which instruction set this machine runs and which one is in use.
#include "common/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace emogs {

bool isa_supported(int isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return isa == 0 || (isa == 1 && v3) || (isa == 2 && v4);
#else
  return isa == 0;
#endif
}

static int find_isa(const char* name) {
  std::string available;
  for (int isa = 0; isa < kIsaCount; ++isa) {
    if (!isa_supported(isa)) continue;
    if (std::strcmp(name, kIsaNames[isa]) == 0) return isa;
    available += (available.empty() ? "" : ", ") + std::string(kIsaNames[isa]);
  }
  throw std::runtime_error("EMOGS_ISA: instruction set '" + std::string(name) +
                           "' cannot run here; available: " + available);
}

static int default_isa() {
  const char* forced = std::getenv("EMOGS_ISA");
  if (forced && *forced) return find_isa(forced);
  int best = kIsaCount - 1;
  while (!isa_supported(best)) --best;
  return best;
}

static std::atomic<int> current_isa{-1};

int isa_in_use() {
  int isa = current_isa.load(std::memory_order_relaxed);
  if (isa < 0) current_isa = isa = default_isa();
  return isa;
}

void use_isa(const char* name) {
  current_isa = find_isa(name);
}

}  // namespace emogs
