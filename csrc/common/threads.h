// How many threads a loop is worth, and which one runs it. Results never depend on either.
#pragma once

#include <stdint.h>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace emogs {

/// Threads for `items` of work if waking another one pays off from `grain` items on.
static inline int threads_for(int threads, int64_t items, int64_t grain) {
  const int64_t useful = (items + grain - 1) / grain;
  return useful < 1 ? 1 : useful < threads ? int(useful) : threads;
}

static inline int thread_index() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace emogs
