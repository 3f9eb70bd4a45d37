// What every CUDA launcher needs: run on the device of the params, and say which kernel failed and why. Kernels are
// launched through launch_kernel alone, so that tests/emulator can run them without a GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/launch.h"

/// Inside a kernel: `T* name` is the shared memory whose size the launch says.
#if !defined(EMOGS_DYNAMIC_SHARED)  // the emulator has its own
#define EMOGS_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char emogs_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(emogs_dynamic_shared)
#endif

namespace emogs {

inline void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it is reported here, and must not be found by the next caller, who may be torch
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

/// Makes the params' device current while it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(const Launch& launch) {
    check_cuda(cudaGetDevice(&previous_), "cudaGetDevice");
    if (previous_ == launch.device) return;
    check_cuda(cudaSetDevice(launch.device), "cudaSetDevice");
    changed_ = true;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

/// The x size of a grid of that many blocks, which CUDA keeps in 31 bits.
inline unsigned grid_size(int64_t blocks, const char* kernel) {
  if (blocks > 0x7fffffff) throw std::runtime_error(std::string(kernel) + ": too many blocks for one launch");
  return static_cast<unsigned>(blocks);
}

inline cudaStream_t stream_of(const Launch& launch) {
  return static_cast<cudaStream_t>(launch.stream);
}

/// Launches `kernel` on the params' stream with `shared_bytes` of dynamic shared memory, of which a kernel may have
/// more than the 48 KiB that static shared memory is limited to. Throws if the launch failed; the message begins with
/// `name`.
template <class... Parameters, class... Arguments>
void launch_kernel(const char* name, void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared_bytes,
                   const Launch& launch, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream_of(launch);
  // The limit belongs to the kernel: another thread must not lower it before this one has launched.
  static std::mutex limit_mutex;
  std::unique_lock<std::mutex> lock(limit_mutex, std::defer_lock);
  if (shared_bytes > 0) {
    lock.lock();
    const int limit = static_cast<int>(shared_bytes);
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, limit);
    if (error != cudaSuccess)  // most likely a GPU that has less, as those before compute capability 8.0
      check_cuda(error, (std::string(name) + " with " + std::to_string(limit) + " bytes of shared memory").c_str());
  }
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

}  // namespace emogs
