// Copies pixels into planes and out of them. (Part of a variant, see vec.h.)

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

// Rows of an image in the caller's memory and where they go, at most kTile of them. The loops over rows are inside those over
// channels: the rows of a channel are adjacent in memory, and the next channel is probably on another page.
struct Rows {
  int count;
  int y;  // of the first
  float* to[kTile];
};

// Rows of image n of a batch to the tiles from `offset` on, zeros from column W to the end of tile `used`'s register.
template <class E>
static void load_image_rows(const Image& image, int n, const Rows& rows, int W, int used, int tiles, ptrdiff_t offset) {
  typedef typename E::Stored Stored;
  const Stored* first = (const Stored*)image.data + n * image.n + rows.y * image.h;
  for (int c = 0; c < image.channels; ++c, offset += kTile * tiles)
    for (int y = 0; y < rows.count; ++y) {
      const Stored* p = first + c * image.c + y * image.h;
      float* to = rows.to[y] + offset;
      for (int t = 0; t < used; t += kLanes) {
        Vec v[kTile];
        for (int i = 0; i < kTile; ++i) {
          const int x = t * kTile + i * kLanes;
          v[i] = image.w == 1 ? load_first<E>(p + x, W - x) : gather_first<E>(p + x * image.w, image.w, W - x);
        }
        split_phases(v);
        for (int i = 0; i < kTile; ++i) store_unaligned(to + i * tiles + t, v[i]);
      }
    }
}

// The same for a shuffled image: the even and the odd pixels of a row of the caller's are the rows of two channels.
template <class E>
static void load_shuffled_rows(const Image& image, int n, const Rows& rows, int W, int used, int tiles, ptrdiff_t offset) {
  typedef typename E::Stored Stored;
  const Stored* images = (const Stored*)image.data + n * image.n;
  for (int c = 0; c < image.channels; c += 2, offset += 2 * kTile * tiles)
    for (int y = 0; y < rows.count; ++y) {
      const Stored* row = images + c / 4 * image.c + (2 * (rows.y + y) + c / 2 % 2) * image.h;
      float* to = rows.to[y] + offset;
      for (int t = 0; t < used; t += kLanes) {
        Vec even[kTile], odd[kTile];
        for (int i = 0; i < kTile; ++i) {
          const int x = 2 * (t * kTile + i * kLanes);
          const Vec low = read<E>(row + x * image.w, image.w, 2 * W - x);
          const Vec high = read<E>(row + (x + kLanes) * image.w, image.w, 2 * W - x - kLanes);
          even[i] = even_lanes(low, high);
          odd[i] = odd_lanes(low, high);
        }
        split_phases(even);
        split_phases(odd);
        for (int i = 0; i < kTile; ++i) {
          store_unaligned(to + i * tiles + t, even[i]);
          store_unaligned(to + (kTile + i) * tiles + t, odd[i]);
        }
      }
    }
}

// Rows of the images, concatenated along the channels, into the plane. Each image's last register reaches into the next image's
// tiles, which are therefore written after it; the last image fills up the row.
static void load_block(const Image* images, int count, const Plane& to, const Rows& rows, const Columns& columns) {
  const int image_tiles = columns.image_tiles();
  ptrdiff_t offset = 0;
  for (int i = 0; i < count; offset += (ptrdiff_t)images[i].channels * kTile * to.tiles, ++i)
    for (int n = 0; n < columns.images; ++n) {
      const int first = n * image_tiles, used = n + 1 < columns.images ? image_tiles : columns.stride - first;
      with_single_or_half(images[i].element, [&](auto e) {
        typedef decltype(e) E;
        const auto load = images[i].shuffled ? load_shuffled_rows<E> : load_image_rows<E>;
        load(images[i], n, rows, columns.W, used, to.tiles, offset + first);
      });
    }
}

// The same, with zeros in rows that lie outside.
static void load_rows(const Image* images, int count, const Plane& to, int y_begin, int y_end, int H, const Columns& columns) {
  for (int y = y_begin; y < y_end;) {
    if (y < 0 || y >= H) {
      zero(to.row(y++), to.row_size());
      continue;
    }
    Rows rows{0, y, {}};
    for (; rows.count < kTile && y < y_end && y < H; ++y) rows.to[rows.count++] = to.row(y);
    load_block(images, count, to, rows, columns);
  }
}

// Pixels from x on of channel c of row y of a shuffled image. Of the two channels that share a row of the caller's, the first
// writes all of it, and the second fills in its half.
template <class E>
RIRN_INLINE void store_shuffled_pixels(const Image& image, int n, int c, int y, int x, int W, const Vec* pixels) {
  typedef typename E::Stored Stored;
  Stored* row = (Stored*)image.data + n * image.n + c / 4 * image.c + (2 * y + c / 2 % 2) * image.h;
  const bool second = c % 2;
  for (int i = 0; i < kTile; ++i, x += kLanes) {
    Stored* p = row + 2 * x * image.w;
    if (image.w == 1 && x + kLanes <= W) {
      const Vec even = second ? even_lanes(E::widen(p), E::widen(p + kLanes)) : pixels[i], odd = second ? pixels[i] : Vec{};
      E::narrow(p, interleave_low(even, odd));
      E::narrow(p + kLanes, interleave_high(even, odd));
    } else {
      scatter_first<E>(p + second * image.w, 2 * image.w, W - x, pixels[i]);
    }
  }
}

// The kTile phases of kLanes tiles from tile t on, as pixels of channel c of row y of image n of a batch.
template <class E>
RIRN_INLINE void store_pixels(const Image& image, int n, int c, int y, int t, int W, const Vec* phases) {
  typedef typename E::Stored Stored;
  Stored* row = (Stored*)image.data + n * image.n + c * image.c + y * image.h;
  Vec v[kTile] = {phases[0], phases[1], phases[2], phases[3]};
  join_phases(v);
  if (image.shuffled) return store_shuffled_pixels<E>(image, n, c, y, t * kTile, W, v);
  for (int i = 0; i < kTile; ++i) {
    const int x = t * kTile + i * kLanes;
    if (image.w == 1) store_first<E>(row + x, W - x, v[i]);
    else scatter_first<E>(row + x * image.w, image.w, W - x, v[i]);
  }
}

RIRN_INLINE void store_pixels(const Image& image, int n, int c, int y, int t, int W, const Vec* phases) {
  with_single_or_half(image.element, [&](auto e) { store_pixels<decltype(e)>(image, n, c, y, t, W, phases); });
}

// The same for the kLanes tiles from tile t of a row of several images on.
static void store_packed_pixels(const Image& image, const Columns& columns, int c, int y, int t, const Vec* phases) {
  float lanes[kTile][2 * kLanes] = {};
  for (int x = 0; x < kTile; ++x) store_unaligned(lanes[x], phases[x]);
  const int image_tiles = columns.image_tiles();
  for (int n = t / image_tiles; n < columns.images && n * image_tiles < t + kLanes; ++n) {
    const int start = n * image_tiles - t;  // the lane of the image's first tile
    const int lane = start > 0 ? start : 0, end = (kLanes - start) * kTile;
    Vec v[kTile];
    for (int x = 0; x < kTile; ++x) v[x] = load_unaligned(lanes[x] + lane);
    store_pixels(image, n, c, y, lane - start, end < columns.W ? end : columns.W, v);
  }
}

// Copies rows of the plane to images that split its channels among them.
static void store_rows(const Plane& from, const Image* images, int count, int y_begin, int y_end, const Columns& columns) {
  const int tiles = from.tiles, image_tiles = columns.image_tiles();
  for (int y0 = y_begin; y0 < y_end; y0 += kTile) {
    const float* rows[kTile];
    const int used = y_end - y0 < kTile ? y_end - y0 : kTile;
    for (int y = 0; y < used; ++y) rows[y] = from.row(y0 + y);
    ptrdiff_t offset = 0;
    for (int k = 0; k < count; ++k)
      for (int c = 0; c < images[k].channels; ++c, offset += kTile * tiles)
        for (int y = 0; images[k].data && y < used; ++y)
          for (int n = 0; n < columns.images; ++n)
            for (int t = 0; t < image_tiles; t += kLanes) {
              Vec v[kTile];
              for (int x = 0; x < kTile; ++x) v[x] = load_unaligned(rows[y] + offset + x * tiles + n * image_tiles + t);
              store_pixels(images[k], n, c, y0 + y, t, columns.W, v);
            }
  }
}
