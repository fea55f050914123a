// Pixels into planes and out of them. (Part of a variant, see vec.h.)

RIRN_INLINE void zero(float* p, size_t n) { __builtin_memset(p, 0, n * sizeof(float)); }

// kTile registers of consecutive pixels to the kTile phases of kLanes tiles, and back.
RIRN_INLINE void split_phases(Vec* x) {
  const Vec e0 = even_lanes(x[0], x[1]), e1 = even_lanes(x[2], x[3]);
  const Vec o0 = odd_lanes(x[0], x[1]), o1 = odd_lanes(x[2], x[3]);
  x[0] = even_lanes(e0, e1);
  x[1] = even_lanes(o0, o1);
  x[2] = odd_lanes(e0, e1);
  x[3] = odd_lanes(o0, o1);
}
RIRN_INLINE void join_phases(Vec* x) {
  const Vec e0 = interleave_low(x[0], x[2]), e1 = interleave_high(x[0], x[2]);
  const Vec o0 = interleave_low(x[1], x[3]), o1 = interleave_high(x[1], x[3]);
  x[0] = interleave_low(e0, o0);
  x[1] = interleave_high(e0, o0);
  x[2] = interleave_low(e1, o1);
  x[3] = interleave_high(e1, o1);
}

template <class E>
static void load_image_row(const Image& image, int y, int W, int tiles, float* to) {
  typedef typename E::Stored Stored;
  const Stored* row = (const Stored*)image.data + y * image.h;
  for (int c = 0; c < image.channels; ++c, to += kTile * tiles) {
    const Stored* p = row + c * image.c;
    for (int t = 0; t * kTile < W; t += kLanes) {
      Vec v[kTile];
      for (int i = 0; i < kTile; ++i) {
        const int x = t * kTile + i * kLanes;
        v[i] = image.w == 1 ? load_first<E>(p + x, W - x) : gather_first<E>(p + x * image.w, image.w, W - x);
      }
      split_phases(v);
      for (int i = 0; i < kTile; ++i) store(to + i * tiles + t, v[i]);
    }
  }
}

// Row y of the images, concatenated along the channels, into the plane; zeros if it lies outside.
static void load_row(const Image* images, int count, const Plane& to, int y, int H, int W) {
  float* p = to.row(y);
  if (y < 0 || y >= H) return zero(p, to.row_size());
  for (int i = 0; i < count; p += (size_t)images[i].channels * kTile * to.tiles, ++i)
    with_single_or_half(images[i].element, [&](auto e) { load_image_row<decltype(e)>(images[i], y, W, to.tiles, p); });
}

static void load_rows(const Image* images, int count, const Plane& to, int y_begin, int y_end, int H, int W) {
  for (int y = y_begin; y < y_end; ++y) load_row(images, count, to, y, H, W);
}

// The kTile phases of kLanes tiles from tile t on, as pixels of channel c of row y.
template <class E>
RIRN_INLINE void store_pixels(const Image& image, int c, int y, int t, int W, const Vec* phases) {
  typedef typename E::Stored Stored;
  Stored* row = (Stored*)image.data + c * image.c + y * image.h;
  Vec v[kTile] = {phases[0], phases[1], phases[2], phases[3]};
  join_phases(v);
  for (int i = 0; i < kTile; ++i) {
    const int x = t * kTile + i * kLanes;
    if (image.w == 1) store_first<E>(row + x, W - x, v[i]);
    else scatter_first<E>(row + x * image.w, image.w, W - x, v[i]);
  }
}

RIRN_INLINE void store_pixels(const Image& image, int c, int y, int t, int W, const Vec* phases) {
  with_single_or_half(image.element, [&](auto e) { store_pixels<decltype(e)>(image, c, y, t, W, phases); });
}

// Rows of the plane to images that split its channels among them.
static void store_rows(const Plane& from, const Image* images, int count, int y_begin, int y_end, int W) {
  for (int y = y_begin; y < y_end; ++y) {
    const float* p = from.row(y);
    for (int k = 0; k < count; ++k)
      for (int c = 0; c < images[k].channels; ++c, p += kTile * from.tiles) {
        if (!images[k].data) continue;
        for (int t = 0; t * kTile < W; t += kLanes) {
          const Vec v[kTile] = {load(p + t), load(p + from.tiles + t), load(p + 2 * from.tiles + t), load(p + 3 * from.tiles + t)};
          store_pixels(images[k], c, y, t, W, v);
        }
      }
  }
}
