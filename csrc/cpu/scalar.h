// Element types: which C++ type a dtype is, and in which type its sums are made.
#pragma once
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <type_traits>

#include "../checks.h"

namespace rirn {
// Sums are made in double for double and in float for everything else.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

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
}  // namespace rirn
