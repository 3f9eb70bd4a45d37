// Where an operation runs. Every params struct inherits from this; emogs/ops/native.py fills it from a tensor.
#pragma once

namespace emogs {

struct Launch {
  int device = -1;         // CUDA ordinal, or -1 for the CPU
  void* stream = nullptr;  // cudaStream_t; unused on the CPU
  int threads = 1;         // OpenMP threads; results never depend on it
};

}  // namespace emogs
