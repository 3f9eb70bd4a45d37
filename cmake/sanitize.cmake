# For tests (`make sanitize`): kernels that report what they should not do. Only kernels are instrumented.
#
#   EMOGS_SANITIZE    thread (with EMOGS_CUDA=emulate); address (with undefined behaviour); empty: neither

set(EMOGS_SANITIZE "" CACHE STRING "for tests: thread, address or empty")
if(NOT EMOGS_SANITIZE MATCHES "^(|thread|address)$")
  message(FATAL_ERROR "EMOGS_SANITIZE is '${EMOGS_SANITIZE}'; it must be thread, address or empty")
endif()
if(EMOGS_SANITIZE STREQUAL "thread" AND NOT EMOGS_CUDA STREQUAL "emulate")
  message(FATAL_ERROR "EMOGS_SANITIZE=thread needs EMOGS_CUDA=emulate: OpenMP's own library is not instrumented")
endif()
set(sanitize_thread -g -fsanitize=thread)
set(sanitize_address -g -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all)
set(EMOGS_SANITIZER_FLAGS ${sanitize_${EMOGS_SANITIZE}})

# Of the CPU's instruction sets one is instrumented, which has kernels for both types; EMOGS_ISA must then name it.
set(EMOGS_SANITIZED_ISA baseline)
if(v3 IN_LIST EMOGS_ISAS)
  set(EMOGS_SANITIZED_ISA v3)
endif()
if(EMOGS_SANITIZE)
  foreach(isa IN LISTS EMOGS_ISAS)
    list(APPEND EMOGS_ISA_FLAGS_${isa} -O0)
  endforeach()
  list(APPEND EMOGS_ISA_FLAGS_${EMOGS_SANITIZED_ISA} -O1 ${EMOGS_SANITIZER_FLAGS})
endif()
