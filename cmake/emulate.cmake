# For tests: the CUDA kernels, and no others, compiled as C++ for this very machine's CPU; tests/emulator/README.md.

add_library(emulate INTERFACE)
target_include_directories(emulate INTERFACE csrc tests/emulator)
target_compile_options(emulate INTERFACE ${EMOGS_FLAGS} -O2)
target_compile_definitions(emulate INTERFACE
  EMULATOR_TSAN=$<STREQUAL:${EMOGS_SANITIZE},thread> EMULATOR_ASAN=$<STREQUAL:${EMOGS_SANITIZE},address>)

# native: with the fused multiply-adds that GPUs have. No SLP: GCC 12's fuses more of them, whatever -ffp-contract says.
# Kernels read memory through other types, as they may on a GPU.
add_library(emulate_kernels INTERFACE)
target_link_libraries(emulate_kernels INTERFACE emulate)
target_compile_options(emulate_kernels INTERFACE
  -march=native -fno-tree-slp-vectorize -fno-math-errno -fno-strict-aliasing -Wno-unknown-pragmas)
if(NOT EMOGS_SANITIZE)  # tests/emulator/checks.cpp, no library
  set(undefined alignment,bounds,null,shift-exponent,integer-divide-by-zero,float-cast-overflow)
  set(EMOGS_SANITIZER_FLAGS -fsanitize=${undefined} -fno-sanitize-recover=all)
endif()
target_compile_options(emulate_kernels INTERFACE ${EMOGS_SANITIZER_FLAGS})

# The emulator itself is never instrumented: it tells the sanitizers what to believe.
file(GLOB emulator_sources CONFIGURE_DEPENDS tests/emulator/*.cpp)
if(EMOGS_SANITIZE)
  list(FILTER emulator_sources EXCLUDE REGEX "/checks.cpp$")
  set(sanitizer_library ${EMOGS_SANITIZER_FLAGS})
endif()
find_package(Threads REQUIRED)
add_library(emulator OBJECT ${emulator_sources})
target_link_libraries(emulator PRIVATE emulate INTERFACE Threads::Threads)
target_link_options(emulator INTERFACE ${sanitizer_library})

foreach(op IN LISTS EMOGS_OPS)
  file(GLOB sources CONFIGURE_DEPENDS csrc/${op}/*.cu)
  list(APPEND kernels ${sources})
endforeach()
file(GLOB bugs CONFIGURE_DEPENDS tests/emulator/bugs/*.cu)
set_source_files_properties(${kernels} ${bugs} PROPERTIES LANGUAGE CXX)
if(EMOGS_SANITIZE)  # at -O2 it alone takes minutes
  set_source_files_properties(csrc/project/project_backward_cuda.cu PROPERTIES COMPILE_OPTIONS -O1)
endif()

add_library(kernels OBJECT ${kernels})
target_link_libraries(kernels PRIVATE emulate_kernels)
target_link_libraries(_C PRIVATE kernels emulator)
target_compile_definitions(_C PRIVATE EMOGS_CUDA_ONLY "EMOGS_CUDA=\"emulated\"")

add_library(bugs OBJECT ${bugs} tests/emulator/bugs/main.cpp)
target_link_libraries(bugs PRIVATE emulate_kernels)
add_executable(seeded_bugs)
target_link_libraries(seeded_bugs PRIVATE bugs emulator)
if(EMOGS_SANITIZE)  # for Python, to see whether the sanitizer sees it there
  add_library(seeded_bugs_module MODULE)
  set_target_properties(seeded_bugs_module PROPERTIES OUTPUT_NAME seeded_bugs)
  target_link_libraries(seeded_bugs_module PRIVATE bugs emulator)
endif()
message(STATUS "emogs: CUDA kernels emulated on the CPU")
