// The body of a SIMD variant; the including file defines RIRN_VARIANT and RIRN_LANES and sets the target.
namespace rirn {
namespace RIRN_VARIANT {
namespace {
constexpr int kLanes = RIRN_LANES;
// Each builds on those before it.
#include "vec.h"
#include "winograd.h"
#include "planes.h"
#include "conv_tiles.h"
#include "sweep.h"
#include "weight_gradient.h"
#include "weights.h"
#include "functions.h"
#include "blend.h"
#include "pointwise.h"
#include "fac.h"
}  // namespace
}  // namespace RIRN_VARIANT

#define RIRN_JOIN_(a, b) a##b
#define RIRN_JOIN(a, b) RIRN_JOIN_(a, b)
const SimdKernels RIRN_JOIN(simd_, RIRN_VARIANT) = {
    RIRN_LANES,
    RIRN_VARIANT::kRowRegisters,
    RIRN_VARIANT::kPairedFrom,
    RIRN_VARIANT::sweep_arena,
    RIRN_VARIANT::sweep,
    RIRN_VARIANT::layer_arena,
    RIRN_VARIANT::layer_rows,
    RIRN_VARIANT::load_rows,
    RIRN_VARIANT::store_rows,
    RIRN_VARIANT::point_sums,
    RIRN_VARIANT::weight_arena,
    RIRN_VARIANT::weight_gradient,
    RIRN_VARIANT::output_block,
    RIRN_VARIANT::pack_arena,
    RIRN_VARIANT::pack_block,
    RIRN_VARIANT::unpack_output,
    RIRN_VARIANT::blend,
    RIRN_VARIANT::blend_backward,
    RIRN_VARIANT::pointwise,
    RIRN_VARIANT::fac,
    RIRN_VARIANT::fac_backward,
};
}  // namespace rirn
