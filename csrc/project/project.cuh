// What both directions of projection share on CUDA. A block of four warps takes a tile of consecutive Gaussians and
// chunks of batch elements. First all threads sum the basis for them, 16 bytes of it at a time, each value used for
// four elements, into shared memory; then a warp takes 32 Gaussians of one element, a lane each, through math/'s
// formulas in the CPU's order of operations. Tiles are long for few elements (128 x 4) and short for many (32 x 16).
#pragma once

#include "common/cuda_launch.h"
#include "math/emotion.h"
#include "math/rig.h"
#include "math/sh.h"
#include "math/splat.h"
#include "project/project.h"

namespace emogs {
namespace {

constexpr int kWarp = 32, kWarps = 4, kThreads = kWarp * kWarps;
constexpr int kPairs = 512;         // a tile's Gaussians times a chunk's elements: 26 KB of deltas
constexpr int kTogether = 4;        // elements that use a basis value while it is in a register
constexpr int kComponentTile = 32;  // components whose weights are in shared memory at a time
constexpr int kPoseColumns = 10;    // scalars a Gaussian of a delta: mean, rotation, log scale, logit opacity
constexpr int kColorColumn = 10;    // behind them, with harmonics, the first harmonic's colour
constexpr int kColumns = 13;
constexpr int64_t kManyElements = 8;  // from here on tiles are short

template <int kTile>
constexpr int kChunk = kPairs / kTile;
template <int kTile>
constexpr int kSubtiles = kTile / kWarp;
template <int kTile>
constexpr int kWarpsPerSubtile = kWarps / kSubtiles<kTile>;
static_assert(kChunk<128> % kTogether == 0 && kSubtiles<128> <= kWarps, "a warp stays with its 32 Gaussians");

/// What a block works on.
struct Work {
  int64_t begin;          // first Gaussian
  int size;               // Gaussians
  int64_t first_element;  // of the chunk
  int elements;
};

__device__ __forceinline__ Work work_of(const ProjectForward<float>& p, int64_t tile, int tile_size, int64_t chunk,
                                        int chunk_size) {
  const int64_t begin = tile * tile_size, first = chunk * chunk_size;
  return {begin, int(minimum(p.count - begin, int64_t(tile_size))), first,
          int(minimum(p.batch - first, int64_t(chunk_size)))};
}

/// Shared memory: what a chunk's elements use.
template <int kTile>
struct Chunk {
  int32_t gaussian[kChunk<kTile>], camera[kChunk<kTile>], emotion[kChunk<kTile>], rig[kChunk<kTile>];  // rows
  alignas(16) float weights[kComponentTile][kChunk<kTile>];  // zero beyond the last component and element
  int used[kComponentTile];                                  // which of these components have any weight
  int used_count;
};

template <int kTile>
__device__ __forceinline__ void read_rows(const ProjectForward<float>& p, const Work& work, Chunk<kTile>& chunk) {
  for (int e = threadIdx.x; e < work.elements; e += kThreads) {
    const int32_t* rows = p.rows + work.first_element + e;
    chunk.gaussian[e] = rows[0], chunk.camera[e] = rows[p.batch];
    chunk.emotion[e] = rows[2 * p.batch], chunk.rig[e] = rows[3 * p.batch];
  }
}

/// Weights of the components from `first` on, by all threads; ends with a barrier.
template <int kTile>
__device__ __forceinline__ void read_weights(const ProjectForward<float>& p, const Work& work, int64_t first,
                                             Chunk<kTile>& chunk) {
  for (int j = threadIdx.x; j < kComponentTile * kChunk<kTile>; j += kThreads) {
    const int k = j % kComponentTile, e = j / kComponentTile;
    const bool exists = e < work.elements && first + k < p.components;
    chunk.weights[k][e] = exists ? p.emotion[chunk.emotion[e] * p.components + first + k] : 0.0f;
  }
  __syncthreads();
  if (threadIdx.x < kWarp) {
    bool any = false;
    for (int e = 0; e < kChunk<kTile>; e++) any = any || chunk.weights[threadIdx.x][e] != 0.0f;
    const unsigned mask = __ballot_sync(0xffffffffu, any);
    if (any) chunk.used[__popc(mask & ((1u << threadIdx.x) - 1))] = threadIdx.x;
    if (threadIdx.x == 0) chunk.used_count = __popc(mask);
  }
  __syncthreads();
}

// ---- One or four consecutive scalars. Four must be aligned to their size.

template <int kVector>
__device__ __forceinline__ void load_values(const float* from, float (&to)[kVector]) {
  if constexpr (kVector == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
  } else {
    for (int v = 0; v < kVector; v++) to[v] = from[v];
  }
}

template <int kVector>
__device__ __forceinline__ void load_values(const Half* from, float (&to)[kVector]) {
  if constexpr (kVector == 4) {
    const uint64_t four = *reinterpret_cast<const uint64_t*>(from);
    for (int v = 0; v < 4; v++) to[v] = load_float(Half{uint16_t(four >> 16 * v)});
  } else {
    to[0] = load_float(*from);
  }
}

template <int kVector>
__device__ __forceinline__ void store_values(const float (&values)[kVector], float* to) {
  if constexpr (kVector == 4)
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
  else
    *to = values[0];
}

/// A warp's records of eight scalars, each in two halves, to the first `count` of 32. Lanes trade halves with their
/// neighbour, so that each store of the warp fills whole 32-byte sectors.
__device__ __forceinline__ void store_eights(const float (&low)[4], const float (&high)[4], float* to, int count) {
  const int lane = threadIdx.x % kWarp;
  const bool odd = lane % 2;
  float first[4], second[4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const float received = __shfl_xor_sync(0xffffffffu, odd ? low[j] : high[j], 1);
    first[j] = odd ? received : low[j], second[j] = odd ? high[j] : received;
  }
  const int even = lane & ~1, half = odd ? 4 : 0;
  if (even < count) store_values(first, to + 8 * even + half);
  if (even + 1 < count) store_values(second, to + 8 * (even + 1) + half);
}

inline bool is_aligned(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

/// Whether rows of the tensors begin where four scalars may be loaded at once.
inline bool loads_four(const ProjectForward<float>& p) {
  bool all = p.count % 4 == 0 && is_aligned(p.colors, 16);
  for (const MaybeHalf<float>& field :
       {p.basis_means, p.basis_rotations, p.basis_log_scales, p.basis_logit_opacities, p.basis_colors})
    all = all && is_aligned(field.full, 16) && is_aligned(field.half, 8);
  return all;
}

/// Records of four scalars are always loaded at once: the caller must have aligned them.
inline void require_aligned(const void* pointer, const char* name) {
  if (!is_aligned(pointer, 16))
    throw std::runtime_error(std::string("project_gaussians: ") + name + " must be aligned to 16 bytes");
}

// ---- Sums over components.

/// sum_e += sum_k e_k basis_k over the used components, for one group of elements. A component that one element does
/// not use is left out of that element's sum, for it may be infinite or NaN.
template <int kTile, int kVector, class Stored>
__device__ __forceinline__ void add_components(const Chunk<kTile>& chunk, int group, const Stored* basis,
                                               int64_t stride, float (&sum)[kTogether][kVector]) {
#pragma unroll 4
  for (int j = 0; j < chunk.used_count; j++) {
    const int k = chunk.used[j];
    float value[kVector], weight[kTogether];
    load_values(basis + k * stride, value);
    load_values(chunk.weights[k] + group * kTogether, weight);
#pragma unroll
    for (int e = 0; e < kTogether; e++)
      if (weight[e] != 0.0f)
#pragma unroll
        for (int v = 0; v < kVector; v++) sum[e][v] = multiply_add(weight[e], value[v], sum[e][v]);
  }
}

template <int kTile, int kVector>
__device__ __forceinline__ void add_components(const Chunk<kTile>& chunk, int group, const MaybeHalf<float>& basis,
                                               int64_t at, int64_t stride, float (&sum)[kTogether][kVector]) {
  if (basis.half)
    add_components(chunk, group, basis.half + at, stride, sum);
  else if (basis.full)
    add_components(chunk, group, basis.full + at, stride, sum);
}

/// A field of the basis, and where it lies among the columns of a delta.
struct BasisField {
  MaybeHalf<float> values;
  int column, width;
};

__device__ __forceinline__ BasisField field_at(const ProjectForward<float>& p, int column) {
  if (column < 3) return {p.basis_means, 0, 3};
  if (column < 6) return {p.basis_rotations, 3, 3};
  if (column < 9) return {p.basis_log_scales, 6, 3};
  if (column < 10) return {p.basis_logit_opacities, 9, 1};
  return {p.basis_colors, kColorColumn, 3};
}

/// Sums of the deltas of a chunk, [element][row]: each field of the first `columns` as it lies in memory. `first` is
/// the first of the components whose weights are in `chunk`.
template <int kTile, int kVector>
__device__ __forceinline__ void add_deltas(const ProjectForward<float>& p, const Work& work, const Chunk<kTile>& chunk,
                                           int64_t first, int columns, int row, float* deltas) {
  constexpr int kGroups = kChunk<kTile> / kTogether;
  for (int item = threadIdx.x; item < columns * kTile / kVector * kGroups; item += kThreads) {
    const int group = item % kGroups, flat = item / kGroups * kVector;
    const BasisField field = field_at(p, flat / kTile);  // the same for a whole warp
    const int at = flat - field.column * kTile;
    if (group * kTogether >= work.elements || at >= work.size * field.width) continue;
    float* to = deltas + group * kTogether * row + flat;
    float sum[kTogether][kVector] = {};
#pragma unroll
    for (int e = 0; e < kTogether; e++)
      if (first > 0 && group * kTogether + e < work.elements) load_values(to + e * row, sum[e]);
    const int64_t stride = p.count * field.width;
    add_components(chunk, group, field.values, first * stride + work.begin * field.width + at, stride, sum);
#pragma unroll
    for (int e = 0; e < kTogether; e++)
      if (group * kTogether + e < work.elements) store_values(sum[e], to + e * row);
  }
}

// ---- What a lane reads of its Gaussian.

__device__ __forceinline__ Vec3<float> load_vec3(const float* from) {
  return {from[0], from[1], from[2]};
}

__device__ __forceinline__ Quat<float> load_quat(const float* from) {
  const float4 q = *reinterpret_cast<const float4*>(from);
  return {q.x, q.y, q.z, q.w};
}

__device__ __forceinline__ Gaussian<float> load_gaussian(const ProjectForward<float>& p, int64_t at) {
  return {load_vec3(p.means + 3 * at), load_quat(p.quats + 4 * at), load_vec3(p.scales + 3 * at), p.opacities[at]};
}

/// `i` counts Gaussians within the tile; `deltas` are the element's.
template <int kTile>
__device__ __forceinline__ Delta<float> load_delta(const float* deltas, int i) {
  return {load_vec3(deltas + 3 * i), load_vec3(deltas + 3 * kTile + 3 * i), load_vec3(deltas + 6 * kTile + 3 * i),
          deltas[9 * kTile + i]};
}

/// A face that does not exist is not finite, and neither are its Gaussians.
__device__ __forceinline__ Frame<float> load_frame(const ProjectForward<float>& p, int64_t rig, int32_t face) {
  const float nan = __builtin_nanf("");
  if (face < 0 || face >= p.faces) return {{nan, nan, nan, nan}, {nan, nan, nan}, nan};
  const float4* from = reinterpret_cast<const float4*>(p.frames + 8 * (rig * p.faces + face));
  const float4 low = from[0], high = from[1];
  return {{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z}, high.w};
}

/// A Gaussian through the steps of this stage before the camera; backward goes back through all of them.
struct Posed {
  Gaussian<float> stored, modulated, world;
};

__device__ __forceinline__ Posed pose(const Gaussian<float>& stored, bool modulated, const Delta<float>& delta,
                                      bool carried, const Frame<float>& frame) {
  Posed g = {stored, stored, {}};
  if (modulated) g.modulated = modulate(stored, delta);
  g.world = carried ? apply_frame(frame, g.modulated) : g.modulated;
  return g;
}

// ---- Harmonics wait in shared memory, the rows of Gaussians one odd stride apart, so that lanes meet no bank twice.

__device__ __forceinline__ int harmonics_stride(int64_t harmonics) {
  return int(3 * harmonics) | 1;
}

/// Rows [begin, begin + size) by `threads` threads, of which this is the `thread`-th. A barrier must follow.
__device__ __forceinline__ void stage_harmonics(const ProjectForward<float>& p, int64_t begin, int size, int thread,
                                                int threads, float* to) {
  const unsigned width = unsigned(3 * p.harmonics), stride = harmonics_stride(p.harmonics);
  const float* from = p.colors + begin * width;
#pragma unroll 8
  for (unsigned j = thread; j < size * width; j += threads) to[j / width * stride + j % width] = from[j];
}

/// One channel of the harmonics of a Gaussian; the emotion changes the first coefficient.
__device__ __forceinline__ float harmonic_sum(const float* coefficients, const ShBasis<float>& basis, int degree,
                                              int channel, bool modulated, const float (&delta)[3]) {
  float coefficient = coefficients[channel];
  if (modulated) coefficient += delta[channel];
  float sum = basis.value[0] * coefficient;
#pragma unroll
  for (int s = 1; s < harmonics_of(degree); s++) sum += basis.value[s] * coefficients[3 * s + channel];
  return sum;
}

/// The vector from the camera to a Gaussian, in the axes that its harmonics live in: those of its face, if it has one.
__device__ __forceinline__ Vec3<float> view_vector(const Camera<float>& camera, Vec3<float> mean, bool carried,
                                                   Quat<float> face) {
  const Vec3<float> view = mean - camera.position;
  return carried ? transpose_multiply(rotation_matrix(face), view) : view;
}

__device__ __forceinline__ Camera<float> camera_at(const ProjectForward<float>& p, int64_t row, int64_t c) {
  const int64_t at = row * p.cameras + c;
  return load_camera(p.viewmats + 16 * at, p.Ks + 9 * at, p.width, p.height, CameraModel(p.model));
}

inline SplatSettings<float> splat_settings(const ProjectForward<float>& p) {
  return {float(p.alpha_cut), float(p.blur), float(p.near), float(p.far), float(p.radius_clip), p.antialiased};
}

}  // namespace
}  // namespace emogs
