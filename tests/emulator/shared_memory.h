// Shared memory is not initialised: before each block it is filled with ones, which are NaN and -1, so that whoever
// reads what nobody has written gets a wrong result on every run.
#pragma once

#include <cstddef>

namespace emulator {

/// All static shared memory of the running thread of the operating system.
class StaticShared {
 public:
  StaticShared();
  void poison() const;

 private:
  char* begin_ = nullptr;
  size_t bytes_ = 0;
};

/// Dynamic shared memory, and a margin that nobody may write to.
class DynamicShared {
 public:
  explicit DynamicShared(size_t bytes);
  ~DynamicShared();
  DynamicShared(const DynamicShared&) = delete;
  DynamicShared& operator=(const DynamicShared&) = delete;
  char* get() const { return memory_; }
  void poison() const;
  bool overrun() const;

 private:
  size_t bytes_;
  char* memory_;
};

}  // namespace emulator
