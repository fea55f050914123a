// The body of a SIMD variant; the including file defines RIRN_VARIANT and RIRN_LANES and sets the target. One with
// RIRN_BF16_PRODUCTS has only what a chain's forward pass needs.
#ifndef RIRN_BF16_PRODUCTS
#define RIRN_BF16_PRODUCTS 0
#endif

namespace rirn {
namespace RIRN_VARIANT {
namespace {
constexpr int kLanes = RIRN_LANES;
// Each builds on those before it.
#include "vec.h"
#include "winograd.h"
#include "products.h"
#include "planes.h"
#include "conv_tiles.h"
#include "sweep.h"
#if !RIRN_BF16_PRODUCTS
#include "weight_gradient.h"
#endif
#include "weights.h"
#if !RIRN_BF16_PRODUCTS
#include "functions.h"
#include "blend.h"
#include "pointwise.h"
#include "fac.h"
#include "resize.h"
#endif
}  // namespace
}  // namespace RIRN_VARIANT

#define RIRN_JOIN_(a, b) a##b
#define RIRN_JOIN(a, b) RIRN_JOIN_(a, b)
const SimdKernels RIRN_JOIN(simd_, RIRN_VARIANT) = {
    RIRN_LANES,
    RIRN_VARIANT::kRowRegisters,
    RIRN_VARIANT::kPairedFrom,
    RIRN_VARIANT::kTogether,
    RIRN_VARIANT::sweep_arena,
    RIRN_VARIANT::sweep,
    RIRN_VARIANT::layer_arena,
    RIRN_VARIANT::transformed_floats,
    RIRN_VARIANT::layer_registers,
    RIRN_VARIANT::load_rows,
    RIRN_VARIANT::output_block,
    RIRN_VARIANT::pack_arena,
    RIRN_VARIANT::pack_block,
#if !RIRN_BF16_PRODUCTS
    RIRN_VARIANT::store_rows,
    RIRN_VARIANT::point_sums,
    RIRN_VARIANT::weight_arena,
    RIRN_VARIANT::weight_gradient,
    RIRN_VARIANT::unpack_output,
    RIRN_VARIANT::blend,
    RIRN_VARIANT::blend_backward,
    RIRN_VARIANT::pointwise,
    RIRN_VARIANT::fac,
    RIRN_VARIANT::fac_backward,
    RIRN_VARIANT::halve_row,
    RIRN_VARIANT::enlarge_row,
#endif
};
}  // namespace rirn
