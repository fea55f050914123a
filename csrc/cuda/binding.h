// What the bindings <op>.cu share: from torch's tensors to the structs of <op>.cuh. Uses only symbols that a CPU-only torch also
// has, so that one binary imports everywhere.
#pragma once
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../checks.h"
#include "../gradients.h"
#include "common.cuh"
#include "stream.h"

namespace rirn {
namespace cuda {
using torch::stable::accelerator::DeviceGuard;  // make one before anything is allocated or launched

inline Stream current_stream(const Tensor& t) {
  return {static_cast<cudaStream_t>(current_stream_of(t.get_device_index()))};
}

inline void check_launch(const char* op) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) fail(op, " could not launch its CUDA kernel: ", cudaGetErrorString(error));
}

// Calls `f` with a value of the type of the elements.
template <class F>
void dispatch_dtype(ScalarType dtype, F&& f) {
  switch (dtype) {
    case ScalarType::Double: return f(double{});
    case ScalarType::Half: return f(__half{});
    case ScalarType::BFloat16: return f(__nv_bfloat16{});
    default: return f(float{});
  }
}

template <class T>
T* pointer(const Tensor& t) {
  return t.numel() ? static_cast<T*>(t.data_ptr()) : nullptr;
}

// Of a tensor [N, C, H, W], or of one without elements.
template <class T>
View<T> view(const Tensor& t) {
  View<T> v = {};
  if (!t.numel()) return v;
  v.data = pointer<T>(t);
  for (int d = 0; d < 4; ++d) {
    v.sizes[d] = t.size(d);
    v.strides[d] = t.stride(d);
  }
  return v;
}
}  // namespace cuda
}  // namespace rirn
