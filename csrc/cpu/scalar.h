// The C++ type of a dtype, and tensors as the SIMD kernels see them.
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

inline Element simd_element(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Double: return Element::float64;
    case ScalarType::BFloat16: return Element::bfloat16;
    case ScalarType::Half: return Element::float16;
    default: return Element::float32;
  }
}

// Image n of a batch; a tensor without elements is one that is not wanted.
inline Image image_of(const Tensor& t, int64_t n, bool shuffled = false) {
  if (!t.numel()) return {};
  char* data = static_cast<char*>(t.data_ptr()) + n * t.stride(0) * static_cast<int64_t>(t.element_size());
  return {data, simd_element(t.scalar_type()), (int)t.size(1) * (shuffled ? 4 : 1), t.stride(1), t.stride(2), t.stride(3),
          t.stride(0), shuffled};
}
}  // namespace rirn
