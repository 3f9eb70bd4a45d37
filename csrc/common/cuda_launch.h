// What every CUDA launcher needs: run on the device of the params, and say which kernel failed and why.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/launch.h"

namespace emogs {

inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

/// Makes the params' device current while it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(const Launch& launch) {
    check_cuda(cudaGetDevice(&previous_), "cudaGetDevice");
    if (previous_ != launch.device) check_cuda(cudaSetDevice(launch.device), "cudaSetDevice");
  }
  ~DeviceGuard() { cudaSetDevice(previous_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
};

/// Call right after `kernel<<<...>>>`.
inline void check_launch(const char* kernel) {
  check_cuda(cudaGetLastError(), kernel);
}

/// The x size of a grid of that many blocks, which CUDA keeps in 31 bits.
inline unsigned grid_size(int64_t blocks, const char* kernel) {
  if (blocks > 0x7fffffff) throw std::runtime_error(std::string(kernel) + ": too many blocks for one launch");
  return static_cast<unsigned>(blocks);
}

inline cudaStream_t stream_of(const Launch& launch) {
  return static_cast<cudaStream_t>(launch.stream);
}

}  // namespace emogs
