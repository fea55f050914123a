// The schemas of all ops and the empty Python module whose import registers them. Implementations: cpu/<op>.cpp, cuda/<op>.cu.
// Only libtorch's stable ABI and Python's limited API are used, so one binary works with many versions of both.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(rirn, m) {
  m.def(
      "atb_blend(Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, float max_weight) -> Tensor");
  // output_mask: bit i set means that gradient i is wanted; a gradient that is not wanted is an empty tensor.
  m.def(
      "atb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit_prev, Tensor logit_cur, "
      "float max_weight, int output_mask) -> (Tensor, Tensor, Tensor, Tensor)");
  // x_l = act_l(conv_l(x_(l-1)) + b_l [+ x_(l-2) where skips[l]]), act_l(v) = v < 0 ? slopes[l] v : v, x_(-1) the inputs one after
  // another in the channels. Backward takes the gradient of the result before its activation, if the last layer has one, and returns
  // those of inputs, weights and biases; output_mask as above.
  m.def(
      "conv3x3_chain(Tensor[] inputs, Tensor[] weights, Tensor[] biases, float[] slopes, int[] skips, "
      "bool unshuffle, bool shuffle) -> Tensor");
  m.def(
      "conv3x3_chain_backward(Tensor grad, Tensor[] inputs, Tensor[] weights, Tensor[] biases, float[] slopes, int[] skips, "
      "bool unshuffle, bool shuffle, int output_mask) -> Tensor[]");
  // The same, with the images between the layers, in working memory (float32, one dimension; empty where all that is held so
  // would come to more than `most` bytes), and the backward pass that reads these instead of making them again, unless there are none.
  // Fast: as below, of both passes but the sums of weight gradients. CPU only.
  m.def(
      "conv3x3_chain_holding(Tensor[] inputs, Tensor[] weights, Tensor[] biases, float[] slopes, int[] skips, "
      "bool unshuffle, bool shuffle, int most, bool fast) -> (Tensor, Tensor)");
  m.def(
      "conv3x3_chain_held_backward(Tensor grad, Tensor held, Tensor[] inputs, Tensor[] weights, Tensor[] biases, float[] slopes, "
      "int[] skips, bool unshuffle, bool shuffle, int output_mask, bool fast) -> Tensor[]");
  // conv3x3_chain where factors of products may be rounded to bfloat16. Without a derivative, CPU only.
  m.def(
      "conv3x3_chain_fast(Tensor[] inputs, Tensor[] weights, Tensor[] biases, float[] slopes, int[] skips, "
      "bool unshuffle, bool shuffle) -> Tensor");
  // What follows a convolution without a bias: act(x + bias [+ skip]), act(v) = v < 0 ? slope v : v. Without a derivative, CUDA only.
  m.def("conv_epilogue(Tensor x, Tensor bias, Tensor? skip, float slope) -> Tensor");
  m.def("irm_update(Tensor hidden, Tensor inner, Tensor[] weights, Tensor[] biases) -> Tensor");
  // Fourteen gradients: hidden, inner, six weights, six biases; output_mask as above.
  m.def(
      "irm_update_backward(Tensor grad, Tensor hidden, Tensor inner, Tensor[] weights, Tensor[] biases, int output_mask) "
      "-> Tensor[]");
  // Five weights and biases: joint, then the two layers of f_prev's branch and of f_cur's. Without a derivative.
  m.def(
      "atb_update(Tensor f_cur, Tensor f_prev, Tensor[] weights, Tensor[] biases, float slope, float decay, float max_weight) "
      "-> Tensor");
  // Means of 2x2 pixels less shift; twice the size, bilinear, times scale and added to an image. Without derivatives, float32 on the CPU only.
  m.def("halve(Tensor images, float shift) -> Tensor");
  m.def("enlarge_onto(Tensor image, Tensor onto, float scale) -> Tensor");
  // Between the first and the last, each weight of this thread's calls is brought in the order of the tensor cores once; the second
  // does so again for all of them, the last returns what that reads and writes. CUDA only.
  m.def("open_packed() -> ()");
  m.def("pack_again() -> ()");
  m.def("close_packed() -> Tensor[]");
  m.def("dtb_blend(Tensor f_prev, Tensor f_cur, Tensor logit, Tensor beta) -> Tensor");
  m.def(
      "dtb_blend_backward(Tensor grad, Tensor f_prev, Tensor f_cur, Tensor logit, Tensor beta, int output_mask) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def("fac(Tensor features, Tensor kernels) -> Tensor");
  m.def("fac_backward(Tensor grad, Tensor features, Tensor kernels, int output_mask) -> (Tensor, Tensor)");
  m.def("gru_update(Tensor hidden, Tensor logit_z, Tensor logit_n) -> Tensor");
  m.def(
      "gru_update_backward(Tensor grad, Tensor hidden, Tensor logit_z, Tensor logit_n, int output_mask) "
      "-> (Tensor, Tensor, Tensor)");
  m.def("lstm_update(Tensor gates, Tensor cell) -> (Tensor, Tensor)");
  m.def(
      "lstm_update_backward(Tensor grad_hidden, Tensor grad_cell, Tensor gates, Tensor cell, int output_mask) "
      "-> (Tensor, Tensor)");
  // How evenly a forward pass goes to threads, see cpu/layer_split.h.
  m.def("conv3x3_chain_balance(int N, int H, int W, int[] channels, int threads) -> float");
  m.def("build_info() -> str");
  m.def("cpu_isa() -> str");
  // Hands the memory kept of freed results back to the system and returns its bytes.
  m.def("release_kept_results() -> int");
}

PyMODINIT_FUNC PyInit__C(void) {
  static struct PyModuleDef module = {
      PyModuleDef_HEAD_INIT, "_C", "Importing this module registers the compiled ops of rirn.", -1, nullptr, nullptr,
      nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
