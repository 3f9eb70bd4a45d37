# The CUDA backend: static runtime, so that the module also imports where there is no driver.

if(EMOGS_CUDA_ARCHS)
  set(CMAKE_CUDA_ARCHITECTURES ${EMOGS_CUDA_ARCHS})
else()
  execute_process(COMMAND nvidia-smi -L OUTPUT_VARIABLE gpus ERROR_QUIET RESULT_VARIABLE failed)
  if(failed EQUAL 0 AND gpus MATCHES "GPU 0")
    set(CMAKE_CUDA_ARCHITECTURES native)
  else()
    set(CMAKE_CUDA_ARCHITECTURES all-major)
  endif()
endif()
enable_language(CUDA)
set_target_properties(_C PROPERTIES
  CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}" CUDA_STANDARD 17 CUDA_RUNTIME_LIBRARY Static
  CUDA_VISIBILITY_PRESET hidden)

target_sources(_C PRIVATE csrc/common/cuda_sort.cu)
foreach(op IN LISTS EMOGS_OPS)
  file(GLOB sources CONFIGURE_DEPENDS csrc/${op}/*.cu)
  target_sources(_C PRIVATE ${sources})
endforeach()
string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
target_compile_definitions(_C PRIVATE "EMOGS_CUDA=\"${architectures}\"")
target_include_directories(_C PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_options(_C PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -Xfatbin=-compress-all --threads=0>)
message(STATUS "emogs: CPU and CUDA backends, architectures ${architectures}")
