// How an operation becomes a Python function without knowing Python. A params struct names its fields once, in `visit`;
// a FieldReader fills them from keyword arguments. `static Operation op = ...` in x_bindings.cpp adds `emogs._C.x`.
// This header has no Python in it, so that a bindings file compiles in a moment.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "common/half.h"
#include "common/launch.h"
#include "common/scalar.h"

namespace emogs {

class FieldReader {
 public:
  virtual ~FieldReader() = default;

  // A pointer takes a contiguous tensor of that very dtype, an integer address (trusted), or None (null).
  template <class T>
  void operator()(const char* name, T*& field) {
    field = static_cast<T*>(pointer(name, scalar_name<std::remove_const_t<T>>()));
  }
  template <class T>
  void operator()(const char* name, MaybeHalf<T>& field) {
    field = {};
    if (is_half(name))
      field.half = static_cast<const Half*>(pointer(name, "float16"));
    else
      field.full = static_cast<const T*>(pointer(name, scalar_name<T>()));
  }
  void operator()(const char* name, void*& field) { field = pointer(name, nullptr); }
  void operator()(const char* name, int64_t& field) { field = integer(name); }
  void operator()(const char* name, int& field) { field = static_cast<int>(integer(name)); }
  void operator()(const char* name, bool& field) { field = integer(name) != 0; }
  void operator()(const char* name, float& field) { field = static_cast<float>(real(name)); }
  void operator()(const char* name, double& field) { field = real(name); }

  virtual std::string text(const char* name) = 0;
  virtual void place(int device) = 0;  // where the tensors that are read from here on must be; -1: on the CPU
  virtual void finish() = 0;  // all fields are read: unknown arguments are an error; lets other Python threads run

 protected:
  virtual void* pointer(const char* name, const char* dtype) = 0;
  virtual bool is_half(const char* name) = 0;  // a tensor of float16
  virtual int64_t integer(const char* name) = 0;
  virtual double real(const char* name) = 0;
};

struct Operation {
  const char* name;
  std::function<int64_t(FieldReader&)> call;

  Operation(const char* op_name, std::function<int64_t(FieldReader&)> op_call)
      : name(op_name), call(std::move(op_call)) {
    all().push_back(*this);
  }
  static std::vector<Operation>& all() {
    static std::vector<Operation> operations;
    return operations;
  }
};

template <class Function, class... Scalars>
struct Backend {
  Function function;
};

// Without the backend in the build the function is never instantiated, so nothing needs to exist behind it.
template <class... Scalars, class Function>
auto on_cpu(Function function) {
#if defined(EMOGS_CUDA_ONLY)  // tests/emulator
  return Backend<Function>{function};
#else
  return Backend<Function, Scalars...>{function};
#endif
}

template <class... Scalars, class Function>
auto on_cuda(Function function) {
#if defined(EMOGS_CUDA)
  return Backend<Function, Scalars...>{function};
#else
  return Backend<Function>{function};
#endif
}

template <template <class> class Params, class Function, class... Scalars>
int64_t run(const char* name, const std::string& dtype, const Launch& launch, FieldReader& reader,
            const Backend<Function, Scalars...>& backend) {
  const std::string device = launch.device < 0 ? "CPU" : "CUDA";
  int64_t result = 0;
  [[maybe_unused]] auto attempt = [&](auto scalar) {
    using T = decltype(scalar);
    if (dtype != scalar_name<T>()) return false;
    Params<T> params{};
    static_cast<Launch&>(params) = launch;
    params.visit(reader);
    reader.finish();
    if constexpr (std::is_void_v<decltype(backend.function(params))>)
      backend.function(params);
    else
      result = backend.function(params);
    return true;
  };
  if ((attempt(Scalars{}) || ...)) return result;
#if !defined(EMOGS_CUDA)
  if (launch.device >= 0)
    throw std::runtime_error(std::string(name) +
                             ": this build of emogs has no CUDA backend; rebuild with "
                             "`EMOGS_CUDA=on pip install --force-reinstall --no-deps .` where nvcc is found");
#endif
  throw std::invalid_argument(std::string(name) + ": no " + device + " kernel for " + dtype);
}

// Params<T> is filled and given to the backend that `device` asks for, T by the keyword `dtype`.
template <template <class> class Params, class Cpu, class Cuda>
Operation operation(const char* name, Cpu cpu, Cuda cuda) {
  return Operation(name, [=](FieldReader& reader) -> int64_t {
    const std::string dtype = reader.text("dtype");
    Launch launch;
    reader("device", launch.device);
    reader("stream", launch.stream);
    reader("threads", launch.threads);
    reader.place(launch.device);
    return launch.device < 0 ? run<Params>(name, dtype, launch, reader, cpu)
                             : run<Params>(name, dtype, launch, reader, cuda);
  });
}

}  // namespace emogs
