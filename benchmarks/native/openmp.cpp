// One thread: what kernels compiled by GCC call of OpenMP, in place of its library, whose own instructions follow what
// the memory allocator did before. A loop's iterations all come at once.

extern "C" {

void GOMP_parallel(void (*body)(void*), void* data, unsigned, unsigned) {
  body(data);
}

bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long, long, long* first, long* behind) {
  *first = start, *behind = end;
  return start < end;
}

bool GOMP_loop_nonmonotonic_dynamic_next(long*, long*) {
  return false;
}

void GOMP_loop_end_nowait() {}

int omp_get_num_threads() {
  return 1;
}

int omp_get_thread_num() {
  return 0;
}
}
