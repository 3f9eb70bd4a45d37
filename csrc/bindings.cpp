// The one file that knows Python: reads keyword arguments into params structs and calls the registered operations.
#include <pybind11/pybind11.h>

#include <optional>

#include "common/isa.h"
#include "common/pages.h"
#include "common/registry.h"

namespace py = pybind11;

namespace emogs {
namespace {

/// "float32" from torch.float32 or numpy's dtype. Types live forever, so each is named once.
const std::string& dtype_name(PyObject* dtype) {
  static std::vector<std::pair<PyObject*, std::string>> known;
  for (const auto& [object, name] : known)
    if (object == dtype) return name;
  std::string name = py::str(dtype);
  known.emplace_back(py::handle(dtype).inc_ref().ptr(), name.substr(name.rfind('.') + 1));
  return known.back().second;
}

/// Tensors must be where the kernel runs: the operations' own checks look at shapes, and a kernel on a GPU that reads
/// the host's memory would end the process. Emulated kernels (tests/emulator) run on tensors of the CPU.
class KeywordReader : public FieldReader {
 public:
  KeywordReader(const char* op, const py::kwargs& arguments) : op_(op), arguments_(arguments) {}

  std::string text(const char* name) override { return py::cast<std::string>(py::handle(take(name))); }

  void place([[maybe_unused]] int device) override {
#if !defined(EMOGS_CUDA_ONLY)
    device_ = device;
#endif
  }

  void finish() override {
    if (read_ != arguments_.size()) {
      std::string message = std::string(op_) + ": unknown argument among";
      for (auto item : arguments_) message += " " + py::cast<std::string>(item.first);
      throw py::type_error(message);
    }
    unlocked_.emplace();
  }

 protected:
  void* pointer(const char* name, const char* dtype) override {
    static PyObject* const dtype_attribute = PyUnicode_InternFromString("dtype");
    static PyObject* const contiguous_method = PyUnicode_InternFromString("is_contiguous");
    static PyObject* const pointer_method = PyUnicode_InternFromString("data_ptr");
    static PyObject* const device_method = PyUnicode_InternFromString("get_device");
    PyObject* value = take(name);
    if (value == Py_None) return nullptr;
    if (PyLong_Check(value)) return PyLong_AsVoidPtr(value);
    const std::string& actual = dtype_name(owned(PyObject_GetAttr(value, dtype_attribute)).ptr());
    if (!dtype || actual != dtype)
      throw py::type_error(where(name) + "must be " + (dtype ? dtype : "an address") + ", got " + actual);
    if (owned(PyObject_CallMethodNoArgs(value, contiguous_method)).ptr() != Py_True)
      throw py::value_error(where(name) + "must be contiguous");
    const auto device = PyLong_AsLong(owned(PyObject_CallMethodNoArgs(value, device_method)).ptr());
    if (device_ != kAnywhere && device != device_)
      throw py::value_error(where(name) + "must be on " + place_name(device_) + ", got " + place_name(device));
    return PyLong_AsVoidPtr(owned(PyObject_CallMethodNoArgs(value, pointer_method)).ptr());
  }

  bool is_half(const char* name) override {
    PyObject* value = PyDict_GetItemString(arguments_.ptr(), name);
    if (!value || value == Py_None || PyLong_Check(value)) return false;
    return dtype_name(owned(PyObject_GetAttrString(value, "dtype")).ptr()) == "float16";
  }

  int64_t integer(const char* name) override {
    const int64_t value = PyLong_AsLongLong(take(name));
    if (value == -1 && PyErr_Occurred()) throw unreadable(name, "an integer");
    return value;
  }

  double real(const char* name) override {
    const double value = PyFloat_AsDouble(take(name));
    if (value == -1.0 && PyErr_Occurred()) throw unreadable(name, "a number");
    return value;
  }

 private:
  PyObject* take(const char* name) {
    PyObject* value = PyDict_GetItemString(arguments_.ptr(), name);
    if (!value) throw py::type_error(where(name) + "is missing");
    ++read_;
    return value;
  }
  static py::object owned(PyObject* result) {
    if (!result) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(result);
  }

  py::type_error unreadable(const char* name, const char* expected) {
    PyErr_Clear();
    return py::type_error(where(name) + "must be " + expected);
  }

  std::string where(const char* name) const { return std::string(op_) + ": " + name + " "; }

  static std::string place_name(long device) { return device < 0 ? "cpu" : "cuda:" + std::to_string(device); }

  static constexpr int kAnywhere = -2;

  const char* op_;
  const py::kwargs& arguments_;
  int device_ = kAnywhere;
  size_t read_ = 0;
  std::optional<py::gil_scoped_release> unlocked_;
};

py::list supported_isas() {
  py::list names;
  for (int isa = 0; isa < kIsaCount; ++isa)
    if (isa_supported(isa)) names.append(kIsaNames[isa]);
  return names;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  for (const Operation& op : Operation::all())
    module.def(op.name, [op](const py::kwargs& arguments) {
      KeywordReader reader(op.name, arguments);
      return op.call(reader);
    });
  module.def("isa_in_use", [] { return kIsaNames[isa_in_use()]; });
  module.def("use_isa", &use_isa);
  module.def("supported_isas", &supported_isas);
  module.def("prefer_huge_pages", &prefer_huge_pages);
#if defined(EMOGS_CUDA)
  module.attr("cuda_architectures") = EMOGS_CUDA;
#else
  module.attr("cuda_architectures") = py::none();
#endif
#if defined(EMOGS_CUDA_ONLY)  // tests/emulator
  module.attr("cpu") = false;
#else
  module.attr("cpu") = true;
#endif
#if defined(_OPENMP)
  module.attr("openmp") = true;
#else
  module.attr("openmp") = false;
#endif
}

}  // namespace emogs
