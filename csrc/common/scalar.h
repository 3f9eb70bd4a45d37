// The names that torch and numpy give to the scalar types of the native code.
#pragma once

#include <cstdint>

#if defined(EMOGS_CUDA)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define EMOGS_CUDA_FLOATS float, __half, __nv_bfloat16  // those that CUDA kernels may be built for
#else
#define EMOGS_CUDA_FLOATS
#endif

namespace emogs {

template <class T>
constexpr const char* scalar_name();

template <>
constexpr const char* scalar_name<float>() {
  return "float32";
}
template <>
constexpr const char* scalar_name<double>() {
  return "float64";
}
template <>
constexpr const char* scalar_name<uint8_t>() {
  return "uint8";
}
template <>
constexpr const char* scalar_name<int32_t>() {
  return "int32";
}
template <>
constexpr const char* scalar_name<int64_t>() {
  return "int64";
}
template <>
constexpr const char* scalar_name<bool>() {
  return "bool";
}
#if defined(EMOGS_CUDA)
template <>
constexpr const char* scalar_name<__half>() {
  return "float16";
}
template <>
constexpr const char* scalar_name<__nv_bfloat16>() {
  return "bfloat16";
}
#endif

}  // namespace emogs
