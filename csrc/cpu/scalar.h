// Element types: which C++ type a dtype is, and what the SIMD kernels call it.
#pragma once
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../checks.h"
#include "simd.h"

namespace rirn {
template <class T>
struct Tag {
  using type = T;
};

// Calls f(Tag<T>()) with the C++ type T of the dtype.
template <class F>
auto dispatch_float(ScalarType dtype, F&& f) {
  switch (dtype) {
    case ScalarType::Double: return f(Tag<double>());
    case ScalarType::Half: return f(Tag<torch::headeronly::Half>());
    case ScalarType::BFloat16: return f(Tag<torch::headeronly::BFloat16>());
    default: return f(Tag<float>());
  }
}

// For the dtypes that the SIMD kernels know: all but double.
inline Element simd_element(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::BFloat16: return Element::bfloat16;
    case ScalarType::Half: return Element::float16;
    default: return Element::float32;
  }
}
}  // namespace rirn
