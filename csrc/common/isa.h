// CPU kernels are compiled once per instruction set, each time in a namespace of that name, and chosen at run time.
// EMOGS_CPU_KERNEL(result, name, Params), written once in x.h, declares them all and defines `name_cpu(params)`, which
// calls the one in use: the best that this machine has, or the one that the environment variable EMOGS_ISA names.
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

}  // namespace emogs

#define EMOGS_DECLARE_IN_ISA(isa, result, name, Params) \
  namespace isa {                                       \
  template <class T>                                    \
  result name(const Params<T>& params);                 \
  }
#define EMOGS_NAME_IN_ISA(isa, name) isa::name<T>,

#define EMOGS_CPU_KERNEL(result, name, Params)                                                              \
  EMOGS_FOR_EACH_ISA(EMOGS_DECLARE_IN_ISA, result, name, Params)                                            \
  template <class T>                                                                                        \
  static inline result name##_cpu(const Params<T>& params) {                                                \
    static constexpr result (*kernels[])(const Params<T>&) = {EMOGS_FOR_EACH_ISA(EMOGS_NAME_IN_ISA, name)}; \
    return kernels[isa_in_use()](params);                                                                   \
  }
