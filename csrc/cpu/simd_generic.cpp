// The SIMD kernels for the baseline of whatever processor the compiler targets.
#include "simd.h"

#define RIRN_VARIANT generic
#define RIRN_LANES 4
#include "simd/variant.h"
