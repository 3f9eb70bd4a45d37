// How launches are run, from the environment: read at every launch, so that a test can change it.
#pragma once

#include <cstdint>

namespace emulator {

struct Settings {
  uint64_t seed;     // EMOGS_EMULATOR_ORDER: 0 for "forward", the index order; n for "random:n"
  unsigned threads;  // EMOGS_EMULATOR_THREADS: blocks at once; as many as there are processors if unset
};

/// Throws std::runtime_error if a variable does not say what it should.
Settings read_settings();

}  // namespace emulator
