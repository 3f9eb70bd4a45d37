# For the speed gate: a program that calls the CPU kernels of one instruction set, to be counted by valgrind
# (benchmarks/speed_count.py builds it; no other target needs it). Not AVX-512, which valgrind 3.19 does not know.

file(GLOB sources CONFIGURE_DEPENDS benchmarks/native/*.cpp)
add_executable(count_instructions EXCLUDE_FROM_ALL ${sources} $<TARGET_OBJECTS:cpu_v3>)
target_include_directories(count_instructions PRIVATE csrc)
target_compile_definitions(count_instructions PRIVATE EMOGS_COUNTED=v3)
target_compile_options(count_instructions PRIVATE ${EMOGS_FLAGS} -O2)
# Without OpenMP's library: benchmarks/native/openmp.cpp. Symbols are looked up at the start: at their first call
# that would be counted.
target_link_options(count_instructions PRIVATE -Wl,-z,now)
