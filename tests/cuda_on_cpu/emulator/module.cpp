// The Python module of the emulator. Importing it also registers the ops of the translated sources.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "control.h"

namespace py = pybind11;
using cuda_on_cpu::Record;

PYBIND11_MODULE(EMULATOR_MODULE, m) {
  py::class_<Record>(m, "Launch")
      .def_readonly("kernel", &Record::kernel)
      .def_property_readonly("grid", [](const Record& r) { return py::make_tuple(r.grid[0], r.grid[1], r.grid[2]); })
      .def_property_readonly("block", [](const Record& r) { return py::make_tuple(r.block[0], r.block[1], r.block[2]); })
      .def_readonly("shared", &Record::shared)
      .def("__repr__", [](const Record& r) { return "Launch(" + r.kernel + ")"; });
  m.def("set_order", &cuda_on_cpu::set_order);
  m.def("set_shared_limit", &cuda_on_cpu::set_shared_limit);
  m.def("set_device", &cuda_on_cpu::set_device);
  m.def("take_requests", &cuda_on_cpu::take_requests);
  m.def("set_capturing", &cuda_on_cpu::set_capturing);
  m.def("take_launches", &cuda_on_cpu::take_launches);
}
