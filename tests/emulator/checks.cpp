// What kernels compiled with -fsanitize=alignment,bounds,null call when they are about to access what they must not: a
// misaligned address, an element beyond the end of an array whose size is known, a null pointer. It ends the launch
// with an error. (Builds with libubsan leave this file out.)
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block.h"

namespace emulator {
namespace {

// As GCC and Clang lay them out.
struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
struct TypeDescriptor {
  uint16_t kind, info;
  char name[1];
};
struct TypeMismatch {
  SourceLocation location;
  const TypeDescriptor* type;
  uint8_t log_alignment, access;
};
struct OutOfBounds {
  SourceLocation location;
  const TypeDescriptor *array, *index;
};

[[noreturn]] void stop(const std::string& what, const SourceLocation& location) {
  const char* const slash = strrchr(location.file, '/');
  const std::string message = what + " at " + (slash ? slash + 1 : location.file) + ":" + std::to_string(location.line);
  if (running_block()) fail(message);
  fprintf(stderr, "emulator: %s, outside of a kernel\n", message.c_str());
  abort();
}

}  // namespace
}  // namespace emulator

extern "C" [[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(const emulator::TypeMismatch* data,
                                                                   uintptr_t address) {
  if (address == 0) emulator::stop("access through a null pointer", data->location);
  emulator::stop("access to " + std::string(data->type->name) + " at an address that is no multiple of " +
                     std::to_string(1u << data->log_alignment),
                 data->location);
}

extern "C" [[noreturn]] void __ubsan_handle_out_of_bounds_abort(const emulator::OutOfBounds* data, uintptr_t index) {
  emulator::stop("element " + std::to_string(intptr_t(index)) + " of " + data->array->name, data->location);
}

extern "C" [[noreturn]] void __ubsan_handle_shift_out_of_bounds_abort(const emulator::SourceLocation* data, uintptr_t,
                                                                      uintptr_t) {
  emulator::stop("shift by more bits than there are", *data);
}

extern "C" [[noreturn]] void __ubsan_handle_divrem_overflow_abort(const emulator::SourceLocation* data, uintptr_t,
                                                                  uintptr_t) {
  emulator::stop("division of an integer by zero, or with an overflow", *data);
}

extern "C" [[noreturn]] void __ubsan_handle_float_cast_overflow_abort(const emulator::SourceLocation* data, uintptr_t) {
  emulator::stop("conversion of a float that the integer cannot hold", *data);
}
