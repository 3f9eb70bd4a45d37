# For tests: the CUDA kernels, and no others, compiled as C++ for this very machine's CPU; tests/emulator/README.md.
#
#   EMOGS_SANITIZE    thread; address (with undefined behaviour); empty: neither

set(EMOGS_SANITIZE "" CACHE STRING "thread, address or empty")
if(NOT EMOGS_SANITIZE MATCHES "^(|thread|address)$")
  message(FATAL_ERROR "EMOGS_SANITIZE is '${EMOGS_SANITIZE}'; it must be thread, address or empty")
endif()

# native: with the fused multiply-adds that GPUs have. No SLP: GCC 12's fuses more of them, whatever -ffp-contract says.
# Kernels read memory through other types, as they may on a GPU.
set(flags ${EMOGS_FLAGS} -O2 -march=native -fno-tree-slp-vectorize -fno-math-errno -fno-strict-aliasing
    -Wno-unknown-pragmas)
set(sanitize_ -fsanitize=alignment,bounds,null -fno-sanitize-recover=all)  # tests/emulator/checks.cpp, no library
set(sanitize_thread -fsanitize=thread -g)
set(sanitize_address -fsanitize=address,undefined -fno-sanitize-recover=all -g)

foreach(op IN LISTS EMOGS_OPS)
  file(GLOB sources CONFIGURE_DEPENDS csrc/${op}/*.cu)
  list(APPEND kernels ${sources})
endforeach()
set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX)
add_library(emulated_kernels OBJECT ${kernels})
target_include_directories(emulated_kernels PRIVATE csrc tests/emulator)
target_compile_options(emulated_kernels PRIVATE ${flags} ${sanitize_${EMOGS_SANITIZE}})

# The emulator itself is never instrumented: it tells the sanitizers what to believe.
file(GLOB sources CONFIGURE_DEPENDS tests/emulator/*.cpp)
if(EMOGS_SANITIZE)
  list(FILTER sources EXCLUDE REGEX "/checks.cpp$")
  target_link_options(_C PRIVATE -fsanitize=${EMOGS_SANITIZE})
endif()
add_library(emulator OBJECT ${sources})
target_include_directories(emulator PRIVATE csrc)
target_compile_options(emulator PRIVATE ${EMOGS_FLAGS} -O2)
foreach(target emulated_kernels emulator)
  target_compile_definitions(${target} PRIVATE
    EMULATOR_TSAN=$<STREQUAL:${EMOGS_SANITIZE},thread> EMULATOR_ASAN=$<STREQUAL:${EMOGS_SANITIZE},address>)
endforeach()

find_package(Threads REQUIRED)
target_link_libraries(_C PRIVATE emulated_kernels emulator Threads::Threads)
target_compile_definitions(_C PRIVATE EMOGS_CUDA_ONLY "EMOGS_CUDA=\"emulated\"")
message(STATUS "emogs: CUDA kernels emulated on the CPU")
