// Kernels with a bug each that a flag turns on: the emulator must catch every one of them (tests/emulator/README.md has
// the table), and must find nothing when the flag is off.
#pragma once

#include <functional>
#include <vector>

#include "common/cuda_launch.h"

/// A kernel, its launch, and a check of what it computed.
struct Bug {
  const char* name;
  std::function<bool(bool)> result_is_right;  // takes whether the bug is on; throws if the launch fails

  Bug(const char* bug_name, std::function<bool(bool)> run) : name(bug_name), result_is_right(std::move(run)) {
    all().push_back(*this);
  }
  static std::vector<Bug>& all() {
    static std::vector<Bug> bugs;
    return bugs;
  }
};

template <class Kernel, class... Arguments>
void launch(Kernel kernel, unsigned blocks, unsigned threads, size_t shared_bytes, Arguments... arguments) {
  emogs::Launch where;
  where.device = 0;
  emogs::launch_kernel("kernel", kernel, blocks, threads, shared_bytes, where, arguments...);
}

/// 1, 2, 3, ...
template <class T>
std::vector<T> counting(size_t count) {
  std::vector<T> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = T(i + 1);
  return values;
}
