// Which images of a batch share the rows of planes.
#pragma once
#include <cstdint>
#include <vector>

#include "simd.h"

namespace rirn {
// A batch as groups of images placed side by side in the rows of planes, so that narrow images do not leave lanes idle.
class Groups {
 public:
  Groups(const SimdKernels& simd, int64_t N, int W)
      : lanes_(simd.lanes), N_(N), images_(images_per_row(simd, N, W)), rows_(simd, W, images_), last_rows_(simd, W, (int)(N % images_)) {}

  int64_t count() const { return (N_ + images_ - 1) / images_; }
  int64_t first(int64_t group) const { return group * images_; }
  Columns columns(int64_t group) const { return (first(group) + images_ <= N_ ? rows_ : last_rows_).columns(); }
  // Of the row of a plane for any group; a register more is the border.
  int plane_tiles() const { return rows_.columns().stride + lanes_; }

 private:
  class Row {
   public:
    Row(const SimdKernels& simd, int W, int images) : columns_{W, images, 0, nullptr} {
      const int image_tiles = columns_.image_tiles(), tiles = columns_.tiles(), stride = simd.whole_registers(tiles);
      masks_.resize((size_t)kMasks * stride);
      columns_.stride = stride;
      for (int t = 0; t < tiles; ++t) {
        const int tile = t % image_tiles;
        for (int x = 0; x < kTile; ++x) masks_[x * stride + t] = tile * kTile + x < W ? -1 : 0;
        masks_[kMaskLeft * stride + t] = tile > 0 ? -1 : 0;
        masks_[kMaskRight * stride + t] = tile + 1 < image_tiles ? -1 : 0;
      }
    }
    Columns columns() const {
      Columns columns = columns_;
      columns.masks = masks_.data();
      return columns;
    }

   private:
    Columns columns_;
    std::vector<int32_t> masks_;
  };

  // The fewest images that waste no registers and give a row enough of them: more would only make rows outgrow the cache.
  static int images_per_row(const SimdKernels& simd, int64_t N, int W) {
    const int tiles = (W + kTile - 1) / kTile;
    auto registers = [&](int64_t images) { return N / images * simd.whole_registers((int)images * tiles) +
                                                  simd.whole_registers((int)(N % images) * tiles); };
    int best = 1;
    for (int images = 2; images <= N && images * tiles <= kMostRegisters * simd.lanes; ++images)
      if (registers(images) < registers(best) ||
          (registers(images) == registers(best) && best * tiles <= (simd.row_registers - 1) * simd.lanes))
        best = images;
    return best;
  }
  static constexpr int kMostRegisters = 4;

  int lanes_;
  int64_t N_;
  int images_;
  Row rows_, last_rows_;
};
}  // namespace rirn
