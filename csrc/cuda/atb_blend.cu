// Bindings of the CUDA kernels of atb_blend: check, allocate, pick the kernel, launch. Only symbols that a CPU-only torch has
// too, so that one binary imports everywhere.
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "../checks.h"
#include "../strides.h"
#include "atb_blend.cuh"

namespace rirn {
namespace {
using namespace cuda;
using Tensors = std::vector<Tensor>;

cudaStream_t current_stream(const Tensor& t) {
  return static_cast<cudaStream_t>(torch::stable::accelerator::getCurrentStream(t.get_device_index()).nativeHandle());
}

void check_launch(const char* op) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) fail(op, " could not launch its CUDA kernel: ", cudaGetErrorString(error));
}

// Blocks for `work` threads, at most as many as keep every multiprocessor busy: the kernels stride over the rest.
int grid_for(int64_t work, const Tensor& t) {
  int processors = 1;
  const cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, t.get_device_index());
  if (error != cudaSuccess) fail("the CUDA device cannot be asked for its multiprocessors: ", cudaGetErrorString(error));
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>((work + kThreads - 1) / kThreads, int64_t(processors) * 16)));
}

template <class F>
void dispatch_cuda(ScalarType dtype, F&& f) {
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

// Whether all tensors (but those without elements) are dense with the strides of `like`.
bool is_flat(const Tensor& like, const Tensors& tensors) {
  if (!is_dense(like)) return false;
  for (const Tensor& t : tensors) {
    if (!t.numel()) continue;
    if (!same_shape(t, like) || !same_strides(t, like)) return false;
  }
  return true;
}

bool is_aligned(const Tensors& tensors) {
  for (const Tensor& t : tensors)
    if (t.numel() && reinterpret_cast<uintptr_t>(t.data_ptr()) % 16) return false;
  return true;
}

Strides strides_of(const Tensor& t, const std::array<int, 4>& order) {
  Strides s;
  for (int k = 0; k < 4; ++k) s.s[k] = order[k] == 1 ? channel_stride(t) : t.stride(order[k]);
  return s;
}

PixelStrides pixel_strides(const Tensor& t) {
  if (!t.numel()) return {};
  return {t.stride(0), t.stride(2), t.stride(3), channel_stride(t)};
}

Tensor atb_blend(Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, double max_weight) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  const torch::stable::accelerator::DeviceGuard guard(f_cur.get_device_index());
  Tensor out = torch::stable::empty_like(f_cur);
  const int64_t n = out.numel();
  if (!n) return out;
  const cudaStream_t stream = current_stream(out);
  const Tensors all = {f_prev, f_cur, logit_prev, logit_cur, out};
  dispatch_cuda(out.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    constexpr int kPack = 16 / sizeof(T);
    const BlendTensors<T> t{pointer<T>(f_prev), pointer<T>(f_cur), pointer<T>(logit_prev), pointer<T>(logit_cur), pointer<T>(out)};
    const Wide<T> weight = static_cast<Wide<T>>(max_weight);
    if (is_flat(out, all)) {
      if (is_aligned(all)) blend_flat<T, kPack><<<grid_for(n / kPack + 1, out), kThreads, 0, stream>>>(t, weight, n);
      else blend_flat<T, 1><<<grid_for(n, out), kThreads, 0, stream>>>(t, weight, n);
    } else {
      const std::array<int, 4> order = memory_order(out);
      Sizes sizes;
      for (int k = 0; k < 4; ++k) sizes.s[k] = out.size(order[k]);
      const BlendStrides strides{strides_of(f_prev, order), strides_of(f_cur, order), strides_of(logit_prev, order),
                                 strides_of(logit_cur, order), strides_of(out, order)};
      blend_strided<T><<<grid_for(n, out), kThreads, 0, stream>>>(t, strides, sizes, weight, n);
    }
  });
  check_launch("atb_blend");
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev,
                                                              Tensor logit_cur, double max_weight, int64_t needs) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  check_grad(grad, f_cur, "f_cur");
  const torch::stable::accelerator::DeviceGuard guard(f_cur.get_device_index());
  const auto make = [&](int bit, const Tensor& like) {
    return needs >> bit & 1 ? torch::stable::empty_like(like) : torch::stable::new_empty(like, {0});
  };
  const Tensors out = {make(0, f_prev), make(1, f_cur), make(2, logit_prev), make(3, logit_cur)};
  const int64_t n = grad.numel();
  if (!n || !(needs & 15)) return {out[0], out[1], out[2], out[3]};
  const cudaStream_t stream = current_stream(grad);
  const Tensors all = {grad, f_prev, f_cur, logit_prev, logit_cur, out[0], out[1], out[2], out[3]};
  dispatch_cuda(grad.scalar_type(), [&](auto sample) {
    using T = decltype(sample);
    constexpr int kPack = 16 / sizeof(T);
    const BlendGradTensors<T> t{pointer<T>(grad), pointer<T>(f_prev), pointer<T>(f_cur), pointer<T>(logit_prev),
                                pointer<T>(logit_cur), pointer<T>(out[0]), pointer<T>(out[1]), pointer<T>(out[2]), pointer<T>(out[3])};
    const Wide<T> weight = static_cast<Wide<T>>(max_weight);
    if (is_flat(f_cur, all)) {
      if (is_aligned(all)) blend_backward_flat<T, kPack><<<grid_for(n / kPack + 1, grad), kThreads, 0, stream>>>(t, weight, n);
      else blend_backward_flat<T, 1><<<grid_for(n, grad), kThreads, 0, stream>>>(t, weight, n);
      return;
    }
    const BlendGradStrides s{pixel_strides(grad), pixel_strides(f_prev), pixel_strides(f_cur), pixel_strides(logit_prev),
                             pixel_strides(logit_cur), pixel_strides(out[0]), pixel_strides(out[1]), pixel_strides(out[2]),
                             pixel_strides(out[3])};
    const PixelSizes sizes{grad.size(0), grad.size(2), grad.size(3), grad.size(1)};
    const bool shared_prev = logit_prev.size(1) == 1, shared_cur = logit_cur.size(1) == 1;
    const int64_t pixels = sizes.n * sizes.h * sizes.w;
    if (f_cur.stride(1) == 1 && sizes.c > 1)
      blend_backward_pixels<T, 32><<<grid_for(pixels * 32, grad), kThreads, 0, stream>>>(t, s, sizes, shared_prev, shared_cur, weight);
    else
      blend_backward_pixels<T, 1><<<grid_for(pixels, grad), kThreads, 0, stream>>>(t, s, sizes, shared_prev, shared_cur, weight);
  });
  check_launch("atb_blend_backward");
  return {out[0], out[1], out[2], out[3]};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {
  m.impl("atb_blend", TORCH_BOX(&rirn::atb_blend));
  m.impl("atb_blend_backward", TORCH_BOX(&rirn::atb_blend_backward));
}
