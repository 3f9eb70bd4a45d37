// csrc/math/functions.h for test_functions.py, which compiles this once per instruction set: every function on scalars
// and on registers.
#include "math/functions.h"

#include "common/row.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

/// y = function(x) of whole registers; `function` takes and returns a scalar or a register.
template <class V, class T, class Function>
void apply(int64_t count, const T* x, T* y, Function function) {
  for (int64_t i = 0; i < count; i += sizeof(V) / sizeof(T)) {
    V value;
    __builtin_memcpy(&value, x + i, sizeof value);
    value = function(value);
    __builtin_memcpy(y + i, &value, sizeof value);
  }
}

}  // namespace
}  // namespace EMOGS_ISA
}  // namespace emogs

#define FUNCTION(name, T, suffix, formula)                                   \
  extern "C" void name##_scalar_##suffix(int64_t count, const T* x, T* y) {  \
    emogs::EMOGS_ISA::apply<T>(count, x, y, [](auto a) { return formula; }); \
  }                                                                          \
  extern "C" void name##_lanes_##suffix(int64_t count, const T* x, T* y) {   \
    using V = emogs::EMOGS_ISA::Lanes<T>;                                    \
    emogs::EMOGS_ISA::apply<V>(count, x, y, [](auto a) { return formula; }); \
  }
#define FUNCTIONS(T, suffix)                                    \
  FUNCTION(exp, T, suffix, emogs::exp(a))                       \
  FUNCTION(expm1, T, suffix, emogs::expm1(a))                   \
  FUNCTION(log, T, suffix, emogs::log(a))                       \
  FUNCTION(sin, T, suffix, emogs::sin_cos(a).sin)               \
  FUNCTION(cos, T, suffix, emogs::sin_cos(a).cos)               \
  FUNCTION(atan, T, suffix, emogs::atan2(a, decltype(a)(T(1)))) \
  FUNCTION(sqrt, T, suffix, sqrt(a))

FUNCTIONS(float, float32)
FUNCTIONS(double, float64)

extern "C" void atan2_lanes(int64_t count, const float* y, const float* x, float* angles) {
  using namespace emogs::EMOGS_ISA;
  using V = Lanes<float>;
  for (int64_t i = 0; i < count; i += V::count) {
    store(emogs::atan2(load(y + i, Whole()), load(x + i, Whole())), angles + i, Whole());
  }
}
