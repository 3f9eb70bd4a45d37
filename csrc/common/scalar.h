// The names that torch and numpy give to the scalar types of the native code.
#pragma once

#include <cstdint>

#include "common/half.h"

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
template <>
constexpr const char* scalar_name<Half>() {
  return "float16";
}
template <>
constexpr const char* scalar_name<BFloat16>() {
  return "bfloat16";
}

}  // namespace emogs
