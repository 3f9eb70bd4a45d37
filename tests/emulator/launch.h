// Launches: the checks that the driver makes, then every block of the grid.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "block.h"
#include "runtime.h"

struct cudaLaunchAttribute;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace emulator {

/// Runs the grid to its end. `address` identifies the kernel.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* address, const Kernel& kernel);

cudaError_t set_dynamic_shared_limit(const void* address, int bytes);

}  // namespace emulator

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
  return emulator::set_dynamic_shared_limit(reinterpret_cast<const void*>(kernel), value);
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  struct Closure {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> arguments;
  } closure{kernel, {std::forward<Arguments>(arguments)...}};
  const auto call = [](const void* closure) {
    const Closure& c = *static_cast<const Closure*>(closure);
    std::apply(c.kernel, c.arguments);  // every thread gets its own copies
  };
  return emulator::launch(*config, reinterpret_cast<const void*>(kernel), {call, &closure});
}
