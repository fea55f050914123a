// A chain of convolutions in one sweep down the rows: each layer follows its input by one row and keeps only the last kPatch
// rows of it in a ring, so that intermediate images stay in the cache. (Part of a variant, see vec.h.)

static int widest(const ConvLayer* layers, int count) {
  int channels = 0;
  for (int l = 0; l < count; ++l) channels = layers[l].ci > channels ? layers[l].ci : channels;
  return channels;
}

static size_t sweep_arena(const ConvLayer* layers, int count, const Columns& columns) {
  size_t size = layer_arena(widest(layers, count));
  for (int l = 0; l < count; ++l) size += (size_t)layers[l].ci * kTile * (columns.stride + kLanes) * kPatch;
  return size;
}

// Layer l (from 1) makes the rows [base - l, base - l + kTile) of its output in the step that brings the rows
// [base, base + kTile) of the image. The last layer's first block starts at y_begin and every layer starts one block before the
// next: all rows that a tile reads are real, so the result, including rounding, does not depend on where the sweep began.
static void sweep(const SweepJob& job) {
  const int n = job.layer_count, H = job.H;
  float* scratch = job.arena;
  float* memory = scratch + layer_arena(widest(job.layers, n));
  constexpr int kMaxLayers = 64;
  Plane rings[kMaxLayers];  // ring l holds the input of layer l + 1
  const int tiles = job.planes ? job.planes[0].tiles : job.columns.stride + kLanes;  // the same for all
  for (int l = 0; l < n; ++l) {
    if (l > 0 && job.planes) {
      rings[l] = job.planes[l - 1];
      continue;
    }
    rings[l] = Plane{memory, job.layers[l].ci, tiles, kPatch};
    zero(memory, rings[l].size());
    memory += rings[l].size();
  }
  int base = job.y_begin + n - kTile * (n - 1);
  load_rows(job.inputs, job.input_count, rings[0], base - 2, base, H, job.columns);
  for (; base - n < job.y_end; base += kTile) {
    load_rows(job.inputs, job.input_count, rings[0], base, base + kTile, H, job.columns);
    for (int l = 1; l <= n; ++l) {
      const int y = base - l;
      const bool needed = base - n >= job.y_begin - kTile * (n - l);
      if (!needed || y + kTile <= 0) continue;  // above the image the rings are zero from the start
      const Plane* to = l < n ? &rings[l] : nullptr;
      if (y >= H) {
        if (to && !job.planes)  // planes have no room for more than their border, which is zero
          for (int i = 0; i < kTile; ++i) zero(to->row(y + i), to->row_size());
        continue;
      }
      const Plane* skip = job.layers[l - 1].skip ? &rings[l - 2] : nullptr;
      layer_registers(LayerJob{job.layers[l - 1], rings[l - 1], skip, nullptr, 1.f, to, &job.output, job.y_begin, job.y_end, H,
                          job.columns, y, 0, job.columns.stride / kLanes, scratch, nullptr, false, 0, 0});
    }
  }
}
