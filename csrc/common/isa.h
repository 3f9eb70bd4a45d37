// CPU kernels are compiled once per instruction set, each time in a namespace of that name, and chosen at run time.
// EMOGS_CPU_KERNEL(result, name, Params), written once in x.h, declares them all and defines `name_cpu(params)`, which
// calls the one in use: the best that this machine has, or the one that the environment variable EMOGS_ISA names.
// float64 is for checking more than for speed: v4 has no kernels of its own for it and takes those of v3, which spares
// a sixth of the build.
#pragma once

#if defined(__x86_64__)
#define EMOGS_FOR_EACH_ISA(X, ...) X(baseline, __VA_ARGS__) X(v3, __VA_ARGS__) X(v4, __VA_ARGS__)
#else
#define EMOGS_FOR_EACH_ISA(X, ...) X(baseline, __VA_ARGS__)
#endif

namespace emogs {

constexpr const char* kIsaNames[] = {"baseline", "v3", "v4"};  // in the order of EMOGS_FOR_EACH_ISA
#define EMOGS_COUNT_ISA(isa, unused) +1
constexpr int kIsaCount = EMOGS_FOR_EACH_ISA(EMOGS_COUNT_ISA, );
#undef EMOGS_COUNT_ISA

bool isa_supported(int isa);     // by this machine
int isa_in_use();                // throws std::runtime_error if EMOGS_ISA names none that this machine runs
void use_isa(const char* name);  // for tests and benchmarks; same error

template <class T>
constexpr bool kIsDouble = false;
template <>
constexpr bool kIsDouble<double> = true;

}  // namespace emogs

#define EMOGS_DECLARE_IN_ISA(isa, result, name, Params) \
  namespace isa {                                       \
  template <class T>                                    \
  result name(const Params<T>& params);                 \
  }
#define EMOGS_DOUBLE_ISA_baseline baseline
#define EMOGS_DOUBLE_ISA_v3 v3
#define EMOGS_DOUBLE_ISA_v4 v3
#define EMOGS_KERNEL_IN_ISA(isa, name)         \
  [] {                                         \
    if constexpr (kIsDouble<T>)                \
      return &EMOGS_DOUBLE_ISA_##isa::name<T>; \
    else                                       \
      return &isa::name<T>;                    \
  }(),

#define EMOGS_CPU_KERNEL(result, name, Params)                                                                \
  EMOGS_FOR_EACH_ISA(EMOGS_DECLARE_IN_ISA, result, name, Params)                                              \
  template <class T>                                                                                          \
  static inline result name##_cpu(const Params<T>& params) {                                                  \
    static constexpr result (*kernels[])(const Params<T>&) = {EMOGS_FOR_EACH_ISA(EMOGS_KERNEL_IN_ISA, name)}; \
    return kernels[isa_in_use()](params);                                                                     \
  }

// INSTANTIATE(T) for each of float and double that the instruction set being compiled has kernels for.
#define EMOGS_HAS_DOUBLE_baseline 1
#define EMOGS_HAS_DOUBLE_v3 1
#define EMOGS_HAS_DOUBLE_v4 0
#define EMOGS_JOIN(a, b) a##b
#define EMOGS_HAS_DOUBLE(isa) EMOGS_JOIN(EMOGS_HAS_DOUBLE_, isa)
#if defined(EMOGS_ISA)
#if EMOGS_HAS_DOUBLE(EMOGS_ISA)
#define EMOGS_FOR_FLOATS(INSTANTIATE) INSTANTIATE(float) INSTANTIATE(double)
#else
#define EMOGS_FOR_FLOATS(INSTANTIATE) INSTANTIATE(float)
#endif
#endif
