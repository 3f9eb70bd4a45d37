// What counts instructions: cases that call CPU kernels on inputs made from fixed seeds. A case makes its inputs and
// hands each kernel call to `Counter`; valgrind collects inside of those calls only (benchmarks/speed_count.py). It
// knows neither torch nor Python. Inputs come from additions, multiplications, divisions and square roots alone, which
// round the same everywhere: with a mathematical library of another version the counts would move.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include <functional>
#include <vector>

#include "common/isa.h"

namespace emogs {

namespace EMOGS_COUNTED {}
namespace counted = EMOGS_COUNTED;  // the kernels of the instruction set that is linked

/// Memory for a kernel, on a cache line's boundary, since kernels and the C library go other ways for other addresses.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size = 0, T value = T{})
      : size_(size), data_(static_cast<T*>(aligned_alloc(64, (size * sizeof(T) + 64) / 64 * 64))) {
    for (int64_t i = 0; i < size; i++) data_[i] = value;
  }
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  operator T*() { return data_; }
  T* data() { return data_; }
  int64_t size() const { return size_; }

 private:
  int64_t size_;
  T* data_;
};

/// splitmix64 (Steele, Lea and Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  /// In [0, 1), a multiple of 2^-24.
  float uniform() { return float(bits() >> 40) * 0x1p-24f; }
  /// Nearly normal: the sum of four uniforms (Irwin and Hall), mean 0, deviation 1.
  float normal() { return (uniform() + uniform() + uniform() + uniform() - 2.f) * 1.7320508f; }
  int32_t below(int32_t count) { return int32_t(bits() % uint64_t(count)); }

 private:
  uint64_t state_;
};

/// Almost normally distributed numbers.
inline void fill(Buffer<float>& buffer, uint64_t seed, float deviation = 1.f, float mean = 0.f) {
  Random random(seed);
  for (int64_t i = 0; i < buffer.size(); i++) buffer[i] = mean + deviation * random.normal();
}

class Counter {
 public:
  /// Runs a kernel call whose instructions are counted, and prints its name and how much work it is.
  ///
  /// `kernel` returns 0, or the kernel's complaint about its inputs, which ends the program. `unit` is what `work`
  /// counts: elements, pairs, gaussians, faces.
  void operator()(const char* direction, int64_t work, const char* unit, const std::function<int64_t()>& kernel);

  const char* name = "";
};

/// `static const Case x("operation/size/type", [](Counter& count) { ... })` adds a case.
struct Case {
  Case(const char* name, std::function<void(Counter&)> run);

  const char* name;
  std::function<void(Counter&)> run;

  static std::vector<Case>& all();
};

}  // namespace emogs
