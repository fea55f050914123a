// How the work of convolutions is divided among threads: predicted by counting, in units of the time that one thread takes for a
// register of tiles of a layer. None of it changes a bit of the result.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "simd.h"

namespace rirn {
// Of parallel_for: the items of the thread that has the most.
inline int64_t most_items(int64_t items, int64_t threads) { return (items + threads - 1) / threads; }

// One layer over an image.
struct LayerSplit {
  int shared;   // 0: every thread has its own registers. Else threads share this many registers at a time: first each transforms
                // some of the inputs, then each makes some of the outputs
  double load;  // of the thread that has the most to do
  double time;  // the same with what sharing costs
};

constexpr double kTransformShare = 0.17;  // in units of the time of a register of tiles
constexpr double kUnpaired = 1.08;        // a register alone instead of two that share a pass over the weights
constexpr double kShared = 1.05;          // transformed inputs go from one core to another

inline LayerSplit split_layer(const SimdKernels& simd, int registers, int ci, int co, int64_t threads) {
  const double whole = (double)most_items(registers, threads);
  LayerSplit best{0, whole, whole};
  if (threads == 1) return best;
  const int most = ci >= simd.paired_from && registers > 1 ? 2 : 1;
  const int inputs = (ci + kTransformed - 1) / kTransformed, outputs = (co + simd.output_block(co) - 1) / simd.output_block(co);
  for (int shared = most; shared >= 1; --shared) {
    const int64_t items = (registers + shared - 1) / shared;
    const double transform = (double)most_items(items * inputs, threads) / inputs;
    const double products = (double)most_items(items * outputs, threads) / outputs;
    const double load = shared * (kTransformShare * transform + (1 - kTransformShare) * products);
    const double time = load * kShared * (shared < most ? kUnpaired : 1);
    if (time < 0.9 * whole && time < best.time) best = {shared, load, time};
  }
  return best;
}

// A chain of layers over groups of images.
struct ChainSplit {
  int band_rows;    // of the bands that the threads sweep; 0: one layer after the other
  double balance;  // work over the time of all threads, which all wait for the slowest
};

// Going layer by layer goes through memory, which takes this much longer.
constexpr double kLayerByLayer = 1.28;

// `channels`: of the input and of all layers' results. `sweeps`: whether a sweep may be taken, `whole_sweeps`: of whole images only.
inline ChainSplit split_chain(const SimdKernels& simd, int64_t groups, int H, int row_registers, const std::vector<int>& channels,
                              int64_t threads, bool sweeps, bool whole_sweeps) {
  const int n = (int)channels.size() - 1, tile_rows = (H + kTile - 1) / kTile;
  double work = 0, load = 0, layers = 0;
  for (int l = 0; l < n; ++l) {
    const double weight = (double)channels[l] * channels[l + 1];
    work += weight * tile_rows * row_registers * groups;
    const LayerSplit layer = split_layer(simd, tile_rows * row_registers, channels[l], channels[l + 1], threads);
    load += weight * layer.load * groups;
    layers += weight * layer.time * groups;
  }
  ChainSplit split{0, work / (threads * load)};
  if (!sweeps) return split;
  const int64_t wanted = whole_sweeps ? 1 : most_items(threads, groups);
  const int band = most_items(tile_rows, wanted), bands = most_items(tile_rows, band);
  // Each band but the first recomputes rows of the layers before the last, one more for each.
  const double again = bands > 1 ? (n - 1) / 2. : 0;
  const double sweep = most_items(groups * bands, threads) * (band + again) * work / (tile_rows * groups);
  if (sweep <= kLayerByLayer * layers) split = {band * kTile, work / (threads * sweep)};
  return split;
}
}  // namespace rirn
