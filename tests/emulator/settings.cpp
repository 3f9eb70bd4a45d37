#include "settings.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

#include "sanitizers.h"

namespace emulator {
namespace {

uint64_t positive(const char* name, const char* text) {
  char* end = nullptr;
  const uint64_t value = strtoull(text, &end, 10);
  if (end == text || *end || value == 0)
    throw std::runtime_error(std::string(name) + ": a number from 1 on was expected, got '" + text + "'");
  return value;
}

uint64_t read_seed() {
  constexpr const char* kName = "EMOGS_EMULATOR_ORDER";
  const char* const text = getenv(kName);
  if (!text || strcmp(text, "forward") == 0) return 0;
  if (strncmp(text, "random:", 7) == 0) return positive(kName, text + 7);
  throw std::runtime_error(std::string(kName) + ": must be 'forward' or 'random:SEED', got '" + text + "'");
}

}  // namespace

Settings read_settings() {
  // AddressSanitizer's builds keep shared memory in one place; ThreadSanitizer's need no luck to see a race.
  constexpr bool kOneThread = EMULATOR_ASAN || EMULATOR_TSAN;
  const char* const threads = getenv("EMOGS_EMULATOR_THREADS");
  const unsigned processors = std::thread::hardware_concurrency();
  return {read_seed(), kOneThread ? 1u
                       : threads  ? unsigned(positive("EMOGS_EMULATOR_THREADS", threads))
                                  : (processors ? processors : 1u)};
}

}  // namespace emulator
