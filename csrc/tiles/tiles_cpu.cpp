// Tile intersection on the CPU: a pass over the splats finds their tiles, they are sorted by depth, and a counting sort
// places them into tiles. Each step takes the splats of an image in parts. Many images: a thread takes a whole one at a
// time. Few: threads take parts. The lists come out in depth order whatever the number of parts or threads.
#include "common/threads.h"
#include "tiles/boxes.h"
#include "tiles/depth_sort.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

constexpr int64_t kSplatGrain = 4096;  // splats that are worth waking a thread
constexpr int64_t kSortGrain = 32768;  // splats whose single steps of sorting, 50 us, are
constexpr int64_t kTileGrain = 65536;  // tiles whose offsets are worth it
constexpr int64_t kLookahead = 32;     // sorted splats whose boxes are on their way from memory

template <class T>
const Splat<T>* splats_of(const IntersectCount<T>& p, int64_t image) {
  return reinterpret_cast<const Splat<T>*>(p.splats) + image * p.count;
}

template <class T>
int64_t tiles_of_image(const IntersectCount<T>& p) {
  return tiles_along(p.width) * tiles_along(p.height);
}

template <class T>
int threads_of_splats(const IntersectCount<T>& p, int64_t grain = kSplatGrain) {
  return threads_for(p.threads, p.images * p.count, grain);
}

/// An image's share of the scratch.
template <class T>
struct Slot {
  TileBox* boxes;  // [count] by index
  DepthSort<T> sort;
};

template <class T>
Slot<T> slot_at(const IntersectCount<T>& p, int64_t index) {
  Slot<T> slot;
  uint8_t* at = p.scratch + index * intersect_tiles_scratch<T>(1, p.count, p.parts);
  slot.boxes = reinterpret_cast<TileBox*>(at);
  slot.sort.parts = p.parts;
  slot.sort.capacity = p.count;
  slot.sort.buffers[0] = reinterpret_cast<Keyed<T>*>(slot.boxes + p.count);
  slot.sort.buffers[1] = slot.sort.buffers[0] + p.count;
  slot.sort.inputs = reinterpret_cast<SortPart<T>*>(slot.sort.buffers[1] + p.count);
  slot.sort.counts = reinterpret_cast<int32_t*>(slot.sort.inputs + p.parts);
  static_assert(sizeof(SortPart<T>) <= 64 && kDigits == 2048, "intersect_tiles_scratch");
  return slot;
}

/// The box without the tiles that the mask leaves out; large ones are looked at tile by tile later.
EMOGS_HD TileBox masked(TileBox box, const bool* mask, int64_t tiles_x) {
  const bool* corner = mask + box_row(box) * tiles_x + box_column(box);
  TileBox kept = box;
  for (TileBox rest = box >> kBoxTiles & kAllBoxTiles; rest; rest &= rest - 1) {
    const int bit = __builtin_ctzll(rest);
    if (!corner[bit / kBoxColumns * tiles_x + bit % kBoxColumns]) kept ^= TileBox(1) << (kBoxTiles + bit);
  }
  return kept;
}

/// Finds the boxes of one part, and what is to be sorted.
template <class T>
void find_part(const IntersectCount<T>& p, int64_t image, int64_t part, const Slot<T>& slot) {
  typedef Lanes<T> V;
  const int64_t begin = part * p.count / p.parts, end = (part + 1) * p.count / p.parts;
  const int64_t tiles_x = tiles_along(p.width);
  const bool* mask = p.tile_mask ? p.tile_mask + image * tiles_of_image(p) : nullptr;
  const Splat<T>* splats = splats_of(p, image);
  Keyed<T>* out = slot.sort.buffers[0] + begin;
  SortPart<T> input = {0, ~typename DepthBits<T>::Type(0), 0};
  for (int64_t first = begin; first < end; first += V::count) {
    const int size = int(minimum(end - first, int64_t(V::count)));
    Columns<T, kSplatSize, V::count> c;
    c.read(reinterpret_cast<const T*>(splats + first), size);
    uint32_t low[V::count], high[V::count];
    find_boxes<T>(
        {c.get(0, 0), c.get(1, 0), c.get(2, 0), c.get(3, 0), c.get(4, 0), c.get(5, 0), c.get(6, 0), c.get(7, 0)},
        p.width, p.height, low, high);
    for (int lane = 0; lane < size; lane++) {
      TileBox box = TileBox(high[lane]) << 32 | low[lane];
      if (mask) box = masked(box, mask, tiles_x);
      slot.boxes[first + lane] = box;
      const auto key = depth_bits(c.at[6][lane]);
      const bool met = box >> kBoxTiles;
      out[input.count] = {key, int32_t(first + lane)};
      input.count += met;
      input.low = met ? minimum(input.low, key) : input.low;
      input.high = met ? maximum(input.high, key) : input.high;
    }
  }
  slot.sort.inputs[part] = input;
}

struct Slice {
  int64_t begin, end;
};

/// Sorted splats of a part.
template <class T>
Slice slice_of(const IntersectCount<T>& p, int64_t image, int64_t part) {
  const int64_t visible = p.visible[image];
  return {part * visible / p.parts, (part + 1) * visible / p.parts};
}

/// Calls visit(tile) for the tiles of a splat.
template <class T>
class BoxTiles {
 public:
  explicit BoxTiles(const IntersectCount<T>& p, int64_t image)
      : p_(p),
        splats_(splats_of(p, image)),
        mask_(p.tile_mask ? p.tile_mask + image * tiles_of_image(p) : nullptr),
        tiles_x_(tiles_along(p.width)) {
    for (int bit = 0; bit < kBoxColumns * kBoxRows; bit++)
      steps_[bit] = int32_t(bit / kBoxColumns * tiles_x_ + bit % kBoxColumns);
  }

  template <class Visit>
  EMOGS_HD_MEMBER void visit(TileBox box, int32_t id, const Visit& visit) const {
    const int64_t corner = box_row(box) * tiles_x_ + box_column(box);
    if (__builtin_expect(box & kLargeBox, 0)) return visit_large(id, visit);
    for (TileBox rest = box >> kBoxTiles; rest; rest &= rest - 1) visit(corner + steps_[__builtin_ctzll(rest)]);
  }

 private:
  template <class Visit>
  __attribute__((noinline)) void visit_large(int32_t id, const Visit& visit) const {
    for_each_tile(splats_[id], p_.width, p_.height, tiles_x_, [&](int64_t tile) {
      if (!mask_ || mask_[tile]) visit(tile);
    });
  }

  const IntersectCount<T>& p_;
  const Splat<T>* splats_;
  const bool* mask_;
  int64_t tiles_x_;
  int32_t steps_[kBoxColumns * kBoxRows];
};

/// Puts the boxes of one part into depth order and counts its pairs by tile.
template <class T>
void count_part(const IntersectCount<T>& p, int64_t image, int64_t part, const Slot<T>& slot) {
  const int64_t tiles = tiles_of_image(p);
  int32_t* counts = p.part_offsets + (image * p.parts + part) * tiles;
  for (int64_t tile = 0; tile < tiles; tile++) counts[tile] = 0;
  const int32_t* order = p.order + image * p.count;
  int64_t* sorted = p.boxes + image * p.count;
  const BoxTiles<T> box_tiles(p, image);
  const Slice slice = slice_of(p, image, part);
  for (int64_t i = slice.begin; i < slice.end; i++) {
    if (i + kLookahead < slice.end) __builtin_prefetch(slot.boxes + order[i + kLookahead]);
    const TileBox box = slot.boxes[order[i]];
    sorted[i] = int64_t(box);
    box_tiles.visit(box, order[i], [&](int64_t tile) { counts[tile]++; });
  }
}

template <class T>
void fill_part(const IntersectFill<T>& p, int64_t image, int64_t part) {
  const int64_t tiles = tiles_of_image(p);
  int32_t* next = p.part_offsets + (image * p.parts + part) * tiles;
  for (int64_t tile = 0; tile < tiles; tile++) next[tile] += int32_t(p.tile_offsets[image * tiles + tile]);
  const int32_t* order = p.order + image * p.count;
  const int64_t* sorted = p.boxes + image * p.count;
  const BoxTiles<T> box_tiles(p, image);
  const Slice slice = slice_of(p, image, part);
  for (int64_t i = slice.begin; i < slice.end; i++) {
    const int32_t id = order[i];
    box_tiles.visit(TileBox(sorted[i]), id, [&](int64_t tile) { p.ids[next[tile]++] = id; });
  }
}

/// Turns the counts of an image's parts into offsets, and leaves where its tiles end, counted from 0.
template <class T>
void add_parts(const IntersectCount<T>& p, int64_t image) {
  const int64_t tiles = tiles_of_image(p);
  int64_t* ends = p.tile_offsets + image * tiles + 1;
  for (int64_t tile = 0; tile < tiles; tile++) ends[tile] = 0;
  for (int64_t part = 0; part < p.parts; part++) {
    int32_t* counts = p.part_offsets + (image * p.parts + part) * tiles;
    for (int64_t tile = 0; tile < tiles; tile++) {
      const int32_t size = counts[tile];
      counts[tile] = int32_t(ends[tile]);
      ends[tile] += size;
    }
  }
  for (int64_t tile = 1; tile < tiles; tile++) ends[tile] += ends[tile - 1];
}

/// After `add_parts` of all images: counts on from image to image.
template <class T>
int64_t add_images(const IntersectCount<T>& p) {
  const int64_t tiles = tiles_of_image(p);
  p.tile_offsets[0] = 0;
  for (int64_t image = 1; image < p.images; image++)
    p.tile_offsets[(image + 1) * tiles] += p.tile_offsets[image * tiles];
#pragma omp parallel for num_threads(threads_for(p.threads, p.images* tiles, kTileGrain)) schedule(static)
  for (int64_t image = 1; image < p.images; image++)
    for (int64_t at = image * tiles + 1; at < (image + 1) * tiles; at++)
      p.tile_offsets[at] += p.tile_offsets[image * tiles];
  return p.tile_offsets[p.images * tiles];
}

/// One thread: all of an image.
template <class T>
void count_image(const IntersectCount<T>& p, int64_t image) {
  const Slot<T> slot = slot_at(p, thread_index());
  find_part(p, image, 0, slot);
  const SortPart<T> total = sort_total(slot.sort);
  p.visible[image] = int32_t(total.count);
  const int passes = sort_passes(total);
  for (int pass = 0; pass < passes; pass++) {
    count_digits(slot.sort, 0, pass);
    move_digits(slot.sort, 0, pass, pass + 1 < passes ? nullptr : p.order + image * p.count);
  }
  count_part(p, image, 0, slot);
  add_parts(p, image);
}

/// Calls step(image, part) for all of them, in parallel.
template <class T, class Step>
void for_each_part(const IntersectCount<T>& p, const Step& step, int64_t grain = kSplatGrain) {
  const int threads = minimum(threads_for(p.threads, p.images * p.parts, 1), threads_of_splats(p, grain));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t work = 0; work < p.images * p.parts; work++) step(work / p.parts, work % p.parts);
}

/// Several threads an image.
template <class T>
void count_images(const IntersectCount<T>& p) {
  for_each_part(p, [&](int64_t image, int64_t part) { find_part(p, image, part, slot_at(p, image)); });
  int passes = 1;
  for (int64_t image = 0; image < p.images; image++) {
    const SortPart<T> total = sort_total(slot_at(p, image).sort);
    p.visible[image] = int32_t(total.count);
    passes = maximum(passes, sort_passes(total));
  }
  for (int pass = 0; pass < passes; pass++) {
    const auto count = [&](int64_t image, int64_t part) { count_digits(slot_at(p, image).sort, part, pass); };
    const auto move = [&](int64_t image, int64_t part) {
      move_digits(slot_at(p, image).sort, part, pass, pass + 1 < passes ? nullptr : p.order + image * p.count);
    };
    for_each_part(p, count, kSortGrain), for_each_part(p, move, kSortGrain);
  }
  for_each_part(p, [&](int64_t image, int64_t part) { count_part(p, image, part, slot_at(p, image)); });
  for (int64_t image = 0; image < p.images; image++) add_parts(p, image);
}

}  // namespace

template <class T>
int64_t intersect_tiles_count(const IntersectCount<T>& p) {
  if (p.parts > 1)
    count_images(p);
  else {
    const int threads = minimum(threads_for(p.threads, p.images, 1), threads_of_splats(p));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t image = 0; image < p.images; image++) count_image(p, image);
  }
  const int64_t pairs = add_images(p);
  return pairs > INT32_MAX ? -1 : pairs;
}

template <class T>
void intersect_tiles_fill(const IntersectFill<T>& p) {
  for_each_part(p, [&](int64_t image, int64_t part) { fill_part(p, image, part); });
}

#define EMOGS_INSTANTIATE(T)                                        \
  template int64_t intersect_tiles_count(const IntersectCount<T>&); \
  template void intersect_tiles_fill(const IntersectFill<T>&);
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)

}  // namespace EMOGS_ISA
}  // namespace emogs
