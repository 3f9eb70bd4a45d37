// How gradients of the deltas of a chunk, in shared memory as [element][columns * kTile], reach the basis, the emotion
// and plain colours. A thread owns four consecutive scalars of the basis for all elements of a chunk, and a block its
// tile for all chunks, so that nothing is added to by two; products with the basis are summed over a tile by one warp.
#pragma once

#include "project/project.cuh"

namespace emogs {

/// Adds up what the backward kernel has left in `camera_sums`, in the first `emotion_rows` rows of `emotion_sums` and
/// in `frame_parts` (project_sums_cuda.cu).
void project_sums_cuda(const ProjectBackward<float>& params, int64_t emotion_rows);

namespace {

constexpr int kCameraSums = 19;  // linear 9, translation 3, position 3, fx, fy, cx, cy
constexpr int kColorColumns = kColumns - kColorColumn;

/// A part of the gradients in shared memory: columns [begin, end) of the deltas, or a window of plain colours.
struct PullRange {
  int begin, end;
  int64_t window;  // plain colours: first scalar of the tile's
  bool first;      // nothing has been written to the emotion's sums of this chunk
};

/// A field of the basis, its gradient or null, and where it lies among the columns.
struct PullField {
  MaybeHalf<float> values;
  float* grad;
  int column;
  int64_t width;
};

__device__ __forceinline__ PullField pull_field_at(const ProjectBackward<float>& p, int column) {
  if (column < 3) return {p.basis_means, p.grad_basis_means, 0, 3};
  if (column < 6) return {p.basis_rotations, p.grad_basis_rotations, 3, 3};
  if (column < 9) return {p.basis_log_scales, p.grad_basis_log_scales, 6, 3};
  if (column < 10) return {p.basis_logit_opacities, p.grad_basis_logit_opacities, 9, 1};
  return {p.basis_colors, p.grad_basis_colors, kColorColumn, p.harmonics ? 3 : p.channels};
}

/// Offset of scalars of a range within a component of the field, or -1 beyond the tile's end.
template <int kTile>
__device__ __forceinline__ int64_t offset_in(const PullField& field, const Work& work, const PullRange& range,
                                             int flat) {
  const int64_t at = range.window + flat - field.column * kTile;
  return at < work.size * field.width ? work.begin * field.width + at : -1;
}

/// Adds sum_e e_k grad_e to the basis' gradient for the components whose weights are in `chunk`, in the order of
/// elements. The block's first chunk writes all of them.
template <int kTile, int kVector>
__device__ __forceinline__ void pull_basis(const ProjectBackward<float>& p, const Work& work, const Chunk<kTile>& chunk,
                                           int64_t first, const PullRange& range, const float* gradients) {
  const int vectors = (range.end - range.begin) * kTile / kVector;
  const int quads = int(minimum(p.components - first, int64_t(kComponentTile)) + 3) / 4;
  for (int item = threadIdx.x; item < vectors * quads; item += kThreads) {
    const int flat = range.begin * kTile + item % vectors * kVector, k = item / vectors * 4;
    const PullField field = pull_field_at(p, flat / kTile);
    const int64_t at = offset_in<kTile>(field, work, range, flat), stride = p.count * field.width;
    if (!field.grad || at < 0) continue;
    float* to = field.grad + (first + k) * stride + at;
    const int together = int(minimum(p.components - first - k, int64_t(4)));
    float sum[4][kVector] = {};
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (work.first_element > 0 && j < together) load_values(to + j * stride, sum[j]);
    for (int e = 0; e < work.elements; e++) {
      float grad[kVector];
      load_values(gradients + e * kColumns * kTile + flat, grad);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float weight = chunk.weights[k + j][e];
        if (weight != 0.0f)
#pragma unroll
          for (int v = 0; v < kVector; v++) sum[j][v] = multiply_add(weight, grad[v], sum[j][v]);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (j < together) store_values(sum[j], to + j * stride);
  }
}

/// Sums over the 32 lanes of a warp of each of kCount values, by halves: lane l returns value l / (32 / kCount).
template <int kCount, int kOffset = kWarp / 2>
__device__ __forceinline__ float sum_over_lanes(const float (&values)[kCount]) {
  if constexpr (kOffset == 0) {
    return values[0];
  } else if constexpr (kCount == 1) {
    return sum_over_lanes<1, kOffset / 2>({values[0] + __shfl_xor_sync(0xffffffffu, values[0], kOffset)});
  } else {
    const bool upper = threadIdx.x & kOffset;
    float half[kCount / 2];
#pragma unroll
    for (int j = 0; j < kCount / 2; j++) {
      const float low = values[j], high = values[j + kCount / 2];
      half[j] = (upper ? high : low) + __shfl_xor_sync(0xffffffffu, upper ? low : high, kOffset);
    }
    return sum_over_lanes<kCount / 2, kOffset / 2>(half);
  }
}

/// sum_e,k += <basis_k, grad_e> for four elements and four components, over one vector. Scalars without a gradient are
/// left out: the basis of a culled Gaussian may be infinite or NaN.
template <int kVector, class Stored>
__device__ __forceinline__ void add_products(const Stored* basis, int64_t stride, int components,
                                             const float (&grad)[4][kVector], float (&sum)[16]) {
#pragma unroll
  for (int k = 0; k < 4; k++) {
    if (k >= components) break;
    float value[kVector];
    load_values(basis + k * stride, value);
#pragma unroll
    for (int e = 0; e < 4; e++)
#pragma unroll
      for (int v = 0; v < kVector; v++)
        if (grad[e][v] != 0.0f) sum[4 * e + k] = multiply_add(value[v], grad[e][v], sum[4 * e + k]);
  }
}

/// Products of the basis with the gradients of a tile into its row of `emotion_sums`. A warp takes four elements and
/// four components at a time.
template <int kTile, int kVector>
__device__ __forceinline__ void pull_emotion(const ProjectBackward<float>& p, const Work& work, int64_t first,
                                             const PullRange& range, const float* gradients) {
  const int lane = threadIdx.x % kWarp, vectors = (range.end - range.begin) * kTile / kVector;
  const int element_quads = (work.elements + 3) / 4;
  const int quads = int(minimum(p.components - first, int64_t(kComponentTile)) + 3) / 4 * element_quads;
  for (int quad = threadIdx.x / kWarp; quad < quads; quad += kWarps) {
    const int element = quad % element_quads * 4;
    const int64_t k = first + quad / element_quads * 4;
    const int components = int(minimum(p.components - k, int64_t(4)));
    float sum[16] = {};
    for (int j = lane; j < vectors; j += kWarp) {
      const int flat = range.begin * kTile + j * kVector;
      const PullField field = pull_field_at(p, flat / kTile);
      const int64_t offset = offset_in<kTile>(field, work, range, flat), stride = p.count * field.width;
      if (!field.values || offset < 0) continue;
      float grad[4][kVector];
#pragma unroll
      for (int e = 0; e < 4; e++)
        load_values(gradients + minimum(element + e, work.elements - 1) * kColumns * kTile + flat, grad[e]);
      if (field.values.half)
        add_products(field.values.half + k * stride + offset, stride, components, grad, sum);
      else
        add_products(field.values.full + k * stride + offset, stride, components, grad, sum);
    }
    const float total = sum_over_lanes(sum);
    const int e = lane / 2 / 4, j = lane / 2 % 4;
    if (lane % 2 == 0 && element + e < work.elements && j < components) {
      float* to = p.emotion_sums + (blockIdx.x * p.batch + work.first_element + element + e) * p.components + k + j;
      *to = range.first ? total : *to + total;
    }
  }
}

/// Both, for all components. By all threads; begins and ends with a barrier. `chunk` holds the weights of the first
/// tile of components if there is no other.
template <int kTile, int kVector>
__device__ __forceinline__ void pull(const ProjectBackward<float>& p, const Work& work, Chunk<kTile>& chunk,
                                     const PullRange& range, const float* gradients) {
  __syncthreads();
  for (int64_t first = 0; first < p.components; first += kComponentTile) {
    if (p.components > kComponentTile) read_weights(p, work, first, chunk);
    pull_basis<kTile, kVector>(p, work, chunk, first, range, gradients);
    if (p.emotion_sums) pull_emotion<kTile, kVector>(p, work, first, range, gradients);
    __syncthreads();
  }
}

/// Gradients of plain colours [window, window + 3 kTile) of a tile into the colour columns, summed over the images that
/// see the Gaussian.
template <int kTile, int kVector>
__device__ __forceinline__ void gather_colors(const ProjectBackward<float>& p, const Work& work, int64_t window,
                                              float* gradients) {
  const int64_t channels = p.channels;
  const int vectors =
      int(minimum(work.size * channels - window, int64_t(kColorColumns * kTile)) + kVector - 1) / kVector;
  for (int item = threadIdx.x; item < vectors * work.elements; item += kThreads) {
    const int flat = item % vectors * kVector, e = item / vectors;
    float sum[kVector] = {};
    for (int64_t c = 0; c < p.cameras; c++) {
      const int64_t begin = ((work.first_element + e) * p.cameras + c) * p.count + work.begin;
      float grad[kVector];
      load_values(p.grad_splat_colors + begin * channels + window + flat, grad);
#pragma unroll
      for (int v = 0; v < kVector; v++) {
        const int i = int(unsigned(window + flat + v) / unsigned(channels));
        if (p.splats[kSplatSize * (begin + i) + 7] != 0.0f) sum[v] += grad[v];
      }
    }
    store_values(sum, gradients + e * kColumns * kTile + kColorColumn * kTile + flat);
  }
}

/// Adds what gather_colors gave to the gradients of the stored colours; the first to come writes them if there is one
/// row.
template <int kTile, int kVector>
__device__ __forceinline__ void add_stored_colors(const ProjectBackward<float>& p, const Work& work,
                                                  const Chunk<kTile>& chunk, int64_t window, const float* gradients) {
  const int64_t values = minimum(work.size * p.channels - window, int64_t(kColorColumns * kTile));
  for (int flat = threadIdx.x * kVector; flat < values; flat += kThreads * kVector) {
    int32_t row = -1;
    float* to = nullptr;
    float sum[kVector] = {};
    for (int e = 0; e < work.elements; e++) {
      if (chunk.gaussian[e] != row) {
        if (row >= 0) store_values(sum, to);
        row = chunk.gaussian[e];
        to = p.grad_colors + (row * p.count + work.begin) * p.channels + window + flat;
        const bool fresh = p.gaussian_rows == 1 && work.first_element == 0;
#pragma unroll
        for (int v = 0; v < kVector; v++) sum[v] = fresh ? 0.0f : to[v];
      }
      float grad[kVector];
      load_values(gradients + e * kColumns * kTile + kColorColumn * kTile + flat, grad);
#pragma unroll
      for (int v = 0; v < kVector; v++) sum[v] += grad[v];
    }
    store_values(sum, to);
  }
}

template <int kTile, int kVector>
__device__ __forceinline__ void pull_plain_colors(const ProjectBackward<float>& p, const Work& work,
                                                  Chunk<kTile>& chunk, float* gradients) {
  for (int64_t window = 0; window < work.size * p.channels; window += kColorColumns * kTile) {
    gather_colors<kTile, kVector>(p, work, window, gradients);
    __syncthreads();
    if (p.grad_colors) add_stored_colors<kTile, kVector>(p, work, chunk, window, gradients);
    if (p.emotion && p.basis_colors)
      pull<kTile, kVector>(p, work, chunk, {kColorColumn, kColumns, window, false}, gradients);
    __syncthreads();
  }
}

}  // namespace
}  // namespace emogs
