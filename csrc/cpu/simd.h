// The interface of the SIMD variants (simd_generic.cpp, simd_avx2.cpp, simd_avx512.cpp) to the rest of the library: plain
// structs and a table of functions. Threads, memory and tensors stay on this side.
#pragma once
#include <cstddef>
#include <cstdint>

#define RIRN_NAMES_ONLY
#include "../formulas.h"
#undef RIRN_NAMES_ONLY

namespace rirn {
constexpr int kTile = 4;           // a Winograd tile yields kTile x kTile outputs
constexpr int kPatch = kTile + 2;  // from kPatch x kPatch inputs
constexpr int kPoints = kPatch * kPatch;

enum class Element { float32, bfloat16, float16, float64 };

// One image of a batch in the caller's memory, strides in elements.
struct Image {
  void* data;  // null: an output that is not wanted
  Element element;
  int channels;
  int64_t c, h, w;
  int64_t n;  // to the next image of the batch
  bool shuffled;  // the channels are the four phases of others: pixel (y, x) of channel 4 k + 2 a + b is the caller's pixel
                  // (2 y + a, 2 x + b) of channel k, and the strides are the caller's
};

// Filter adaptive convolution: kFacSize x kFacSize filters, edges replicated.
constexpr int kFacSize = 5;
constexpr int kFacTaps = kFacSize * kFacSize;

// Rows of an image in working memory, all channels of a row together, each channel split by x mod kTile into `kTile` phases so
// that lanes of a register are neighbouring tiles: pixel x of channel k is row(y)[(k * kTile + x % kTile) * tiles + x / kTile].
// Row y is in slot y mod `rows`: few rows form a ring, many hold the whole image with its border. Pixels outside the image are
// zero.
struct Plane {
  float* base;
  int channels;
  int tiles;  // per phase, a multiple of the lanes and more than the image needs: the surplus is the zero border
  int rows;

  size_t row_size() const { return (size_t)channels * kTile * tiles; }
  size_t size() const { return row_size() * rows; }
  float* row(int y) const { return base + (size_t)((y % rows + rows) % rows) * row_size(); }
};

// The columns of a plane's rows: some images of a batch side by side, each starting at a new tile. A tile's arithmetic is the
// same wherever it is, so results are bit-identical for any number of images in a row.
struct Columns {
  int W;       // of one image
  int images;  // side by side
  int stride;  // of the masks: the tiles of a row, rounded up to whole registers
  const int32_t* masks;  // [kMasks][stride], -1 or 0 for each tile

  int image_tiles() const { return (W + kTile - 1) / kTile; }
  int tiles() const { return images * image_tiles(); }
};

// Masks 0 .. kTile - 1: whether phase x of a tile lies in an image. Then: whether its neighbour is a tile of the same image.
constexpr int kMaskLeft = kTile, kMaskRight = kTile + 1, kMasks = kTile + 2;

// A 3x3 convolution, stride 1, zero padding 1. In words: y = act(conv(x) + bias + skip), act(v) = v < 0 ? slope v : v.
struct ConvLayer {
  const float* weights;  // packed, see winograd_pack.h
  const float* bias;     // [co]
  int ci, co;
  float slope;  // 1: no activation, 0: ReLU
  bool skip;    // adds the input of the layer before
};

// A chain of layers over the rows [y_begin, y_end) of images side by side, in one sweep down the rows.
struct SweepJob {
  const Image* inputs;  // the first images of each input; read as if concatenated along the channels
  int input_count;
  Image output;
  const ConvLayer* layers;
  int layer_count;
  int H;
  Columns columns;
  int y_begin, y_end;  // y_begin is a multiple of kTile
  const Plane* planes;  // inputs of all layers but the first, kept as whole images with a border, rows as wide as the arena's; null: in rings
  float* arena;        // sweep_arena() floats, aligned to 64 bytes
};

// One layer over some registers of tiles, counted along the rows of tiles from row y on.
struct LayerJob {
  ConvLayer layer;
  Plane in;
  const Plane* skip;     // added to the result; may be null
  const Plane* gate;     // then: where it is <= 0 the result is multiplied by gate_slope; may be null
  float gate_slope;
  const Plane* to;       // the result goes here (may be the gate's memory), or
  const Image* image;    // if `to` is null, rows y_begin .. y_end - 1 of it here
  int y_begin, y_end;
  int H;
  Columns columns;
  int y, first, count;
  float* arena;  // layer_arena() floats, aligned to 64 bytes
  // For threads that share registers: null, or `count` registers go through the layer together, and either their transformed inputs,
  // the channels from begin to end, are put here (transformed_floats()), or outputs from begin to end are made of them.
  float* transformed;
  bool makes_outputs;
  int begin, end;  // multiples of kTransformed or of the outputs that are packed together
};

// Fewest input channels that a thread transforms if threads share registers of tiles.
constexpr int kTransformed = 8;

// Adds the contribution of rows of tiles to the gradients of weights and bias, in the transform domain.
struct WeightJob {
  Plane in, grad;
  int ci, co;      // channels of these, the first ones
  float* weights;  // [kPoints][point_sums]
  float* bias;     // [co]
  bool first;      // there is nothing yet to add to
  Columns columns;
  int y_begin, y_end;  // multiples of kTile
  float* arena;        // weight_arena() floats, aligned to 64 bytes
};

// Packs weights, see winograd_pack.h: tap k of the kernel from input c to output o is weights[o output + c input + k], or 8 - k.
struct PackJob {
  const float* weights;
  int64_t output, input;
  bool rotated;
  int co, ci;
  float* packed;
  float* arena;  // pack_arena() floats, aligned to 64 bytes
};

// The gradient of dense weights [co][ci][3][3] from the sums of `parts` WeightJobs, `stride` floats apart.
struct UnpackJob {
  const float* sums;
  int parts;
  size_t stride;
  int co, ci;
  float* weights;
};

// One tensor of an op on pixels: strides in elements from pixel to pixel and from channel to channel (0: shared by all channels).
struct Run {
  void* data;  // null: a gradient that is not wanted
  int64_t pixel, channel;
};

// atb_blend over some pixels of one image.
struct BlendJob {
  Element element;
  int64_t pixels, channels;
  bool channels_inner;  // channels are adjacent in memory, else pixels are
  float max_weight;
  Run f_prev, f_cur, logit_prev, logit_cur, out;
};

struct BlendBackwardJob {
  Element element;
  int64_t pixels, channels;
  bool channels_inner;
  float max_weight;
  Run grad, f_prev, f_cur, logit_prev, logit_cur;
  Run grad_f_prev, grad_f_cur, grad_logit_prev, grad_logit_cur;
};

// The pointwise ops. Inputs and outputs are in the order of the op's schema, the gates of an LSTM as four tensors; unwanted
// outputs of a gradient have no data.
#define RIRN_NAMES(NAME, FORMULA) NAME, NAME##_backward,
enum class Pointwise { RIRN_POINTWISE(RIRN_NAMES) };
#undef RIRN_NAMES
constexpr int kPointwiseInputs = 7, kPointwiseOutputs = 5;  // at most

struct PointwiseJob {
  Pointwise op;
  Element element;
  int64_t pixels, channels;
  bool channels_inner;
  Run inputs[kPointwiseInputs];
  Run outputs[kPointwiseOutputs];
  unsigned summed;  // bit i: output i is double, each of its strides is 0 (sum along it) or 1, and the sums are added to it
};

// Row y of fac, on one image: all channels if they are adjacent in memory, else one of them.
struct FacJob {
  Element element;
  bool channels_inner;
  Image features, kernels;
  Image out;                                 // of fac
  Image grad, grad_features, grad_kernels;  // of its gradient
  int H, W;
  int channel, y;
};

struct SimdKernels {
  int lanes;
  int row_registers;  // of tiles that a row should have if there are enough images
  int paired_from;  // inputs of a layer from which on two registers of tiles share a pass over its weights
  int channels_together;  // input channels that share one float of packed weights: 1, or 2 rounded to bfloat16
  size_t (*sweep_arena)(const ConvLayer* layers, int count, const Columns& columns);
  void (*sweep)(const SweepJob&);
  size_t (*layer_arena)(int max_channels);
  size_t (*transformed_floats)(int channels, int registers);
  void (*layer)(const LayerJob&);
  void (*load_rows)(const Image* inputs, int count, const Plane& to, int y_begin, int y_end, int H,
                    const Columns& columns);
  int (*output_block)(int co);  // outputs that are packed together
  size_t (*pack_arena)(int co, int ci);
  void (*pack_block)(const PackJob&, int o);  // the block of outputs from o on

  // A variant with bfloat16 products has nothing from here on: it only serves forward passes of convolutions.
  void (*store_rows)(const Plane& from, const Image* outputs, int count, int y_begin, int y_end, const Columns& columns);
  size_t (*point_sums)(int ci, int co);  // floats of one point in WeightJob::weights
  size_t (*weight_arena)(int ci, int co);
  void (*weight_gradient)(const WeightJob&);
  void (*unpack_output)(const UnpackJob&, int o);
  void (*blend)(const BlendJob&);
  void (*blend_backward)(const BlendBackwardJob&);
  void (*pointwise)(const PointwiseJob&);
  void (*fac)(const FacJob&);
  void (*fac_backward)(const FacJob&);
  void (*halve_row)(const float* upper, const float* lower, float* out, int64_t count, float shift);
  void (*enlarge_row)(const float* near, const float* far, const float* onto, float* out, float* mixed, int64_t count, float scale);

  // Tiles of a row, filled up to whole registers.
  int whole_registers(int tiles) const { return (tiles + lanes - 1) / lanes * lanes; }
};

// The variant for this machine, see isa.h; `fast`: that with bfloat16 products where there is one.
const SimdKernels& simd_kernels(bool fast = false);

extern const SimdKernels simd_generic, simd_avx2, simd_avx512, simd_avx512_bf16;
}  // namespace rirn
