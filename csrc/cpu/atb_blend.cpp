// atb_blend on the CPU: out = sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <tuple>

#include "scalar.h"

namespace rirn {
namespace {
template <class A>
A sigmoid(A x) { return A(1) / (A(1) + std::exp(-x)); }

template <class T>
struct View {
  T* p;
  int64_t n, c, h, w;
  T& at(int64_t in, int64_t ic, int64_t ih, int64_t iw) const { return p[in * n + ic * c + ih * h + iw * w]; }
};
template <class T>
View<T> view(const Tensor& t) {
  return {(T*)t.data_ptr(), t.stride(0), t.size(1) == 1 ? 0 : t.stride(1), t.stride(2), t.stride(3)};
}

Tensor atb_blend(Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, double max_weight) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  Tensor out = torch::stable::empty_like(f_cur);
  const int64_t N = out.size(0), C = out.size(1), H = out.size(2), W = out.size(3);
  dispatch_float(f_cur.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Wide<T>;
    const auto fp = view<T>(f_prev), fc = view<T>(f_cur), lp = view<T>(logit_prev), lc = view<T>(logit_cur), o = view<T>(out);
    torch::stable::parallel_for(0, N * H, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t n = r / H, h = r % H;
        for (int64_t c = 0; c < C; ++c)
          for (int64_t w = 0; w < W; ++w)
            o.at(n, c, h, w) = T(sigmoid(A(lp.at(n, c, h, w))) * A(fp.at(n, c, h, w)) +
                                 A(max_weight) * sigmoid(A(lc.at(n, c, h, w))) * A(fc.at(n, c, h, w)));
      }
    });
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev,
                                                              Tensor logit_cur, double max_weight, int64_t needs) {
  check_atb_blend(f_prev, f_cur, logit_prev, logit_cur);
  check_grad(grad, f_cur, "f_cur");
  const int64_t N = grad.size(0), C = grad.size(1), H = grad.size(2), W = grad.size(3);
  auto make = [&](int bit, const Tensor& like) {
    return needs >> bit & 1 ? torch::stable::empty_like(like) : torch::stable::new_empty(like, {0});
  };
  Tensor g_fp = make(0, f_prev), g_fc = make(1, f_cur), g_lp = make(2, logit_prev), g_lc = make(3, logit_cur);
  dispatch_float(f_cur.scalar_type(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = Wide<T>;
    auto side = [&](const Tensor& f, const Tensor& logit, const Tensor& gf, const Tensor& gl, A scale, bool want_f, bool want_l) {
      const auto g = view<T>(grad), fv = view<T>(f), lv = view<T>(logit);
      const auto gfv = want_f ? view<T>(gf) : View<T>{}, glv = want_l ? view<T>(gl) : View<T>{};
      const bool shared = logit.size(1) == 1 && C != 1;
      torch::stable::parallel_for(0, N * H, 1, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t n = r / H, h = r % H;
          for (int64_t w = 0; w < W; ++w) {
            A sum = 0;
            for (int64_t c = 0; c < C; ++c) {
              const A s = sigmoid(A(lv.at(n, c, h, w))), gs = A(g.at(n, c, h, w)) * scale * s;
              if (want_f) gfv.at(n, c, h, w) = T(gs);
              const A gl1 = gs * (A(1) - s) * A(fv.at(n, c, h, w));
              if (shared) sum += gl1;
              else if (want_l) glv.at(n, c, h, w) = T(gl1);
            }
            if (shared && want_l) glv.at(n, 0, h, w) = T(sum);
          }
        }
      });
    };
    side(f_prev, logit_prev, g_fp, g_lp, A(1), needs & 1, needs & 4);
    side(f_cur, logit_cur, g_fc, g_lc, A(max_weight), needs & 2, needs & 8);
  });
  return {g_fp, g_fc, g_lp, g_lc};
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CPU, m) {
  m.impl("atb_blend", TORCH_BOX(&rirn::atb_blend));
  m.impl("atb_blend_backward", TORCH_BOX(&rirn::atb_blend_backward));
}
