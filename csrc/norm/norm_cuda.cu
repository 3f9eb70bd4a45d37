// Emotion-conditioned normalization on CUDA: which kernel takes which rows (norm_group.cuh, norm_loop.cuh), and the
// kernels that make the vectors' gradients of the chunks' sums. No atomics: the same bits in every run.
#include <type_traits>

#include "common/cuda_launch.h"
#include "math/norm.h"
#include "norm/norm.h"
#include "norm/norm_group.cuh"
#include "norm/norm_loop.cuh"

namespace emogs {
namespace {

// Adds up the rows of a matrix [rows, columns] into its first: a block takes 32 columns, and its warps every 32nd row,
// then what the warps have is added in order.
constexpr int kSumWarps = 32;

__global__ void __launch_bounds__(32 * kSumWarps)
    emotion_norm_sum_chunks_kernel(float* partial, int64_t rows, int64_t columns) {
  __shared__ float sums[kSumWarps][32];
  const int64_t tiles = (columns + 31) / 32, column = blockIdx.x % tiles * 32 + threadIdx.x;
  float* first = partial + blockIdx.x / tiles * rows * columns + column;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (int64_t row = threadIdx.y; row < rows; row += kSumWarps) sum += first[row * columns];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
#pragma unroll 8
  for (int warp = 1; warp < kSumWarps; ++warp) sum += sums[warp][threadIdx.x];
  *first = sum;
}

/// EmotionNormBackward without what is stored as T: the vectors, their gradients, and the sums in `partial`.
struct VectorGradients {
  int64_t batch, chunks, regions, channels, terms, scale_rows, shift_rows, gate_rows;
  const float *scale, *weight, *bias, *partial;
  float *grad_scale, *grad_shift, *grad_gate, *grad_weight, *grad_bias;

  template <class T>
  explicit VectorGradients(const EmotionNormBackward<T>& p)
      : batch(p.batch),
        chunks(p.chunks),
        regions(p.regions),
        channels(p.channels),
        terms(p.gate ? 3 : 2),
        scale_rows(p.scale_rows),
        shift_rows(p.shift_rows),
        gate_rows(p.gate_rows),
        scale(p.scale),
        weight(p.weight),
        bias(p.bias),
        partial(p.partial),
        grad_scale(p.grad_scale),
        grad_shift(p.grad_shift),
        grad_gate(p.grad_gate),
        grad_weight(p.grad_weight),
        grad_bias(p.grad_bias) {}
};

constexpr int kFinishThreads = 64;  // few, so that a thousand channels spread over many multiprocessors

// A thread a channel: forms the vectors' gradients (math/norm.h) from the sums in the first chunks.
__global__ void __launch_bounds__(kFinishThreads) emotion_norm_finish_kernel(VectorGradients p) {
  const int64_t c = int64_t(blockIdx.x) * kFinishThreads + threadIdx.x, channels = p.channels;
  if (c >= channels) return;
  const int64_t plane = p.regions * channels;
  const float weight = p.weight ? p.weight[c] : 1.0f, bias = p.bias ? p.bias[c] : 0.0f;
  float grad_weight = 0, grad_bias = 0;
  auto add = [&](float* vectors, int64_t rows, int64_t b, int64_t r, float value) {
    float* to = vectors + (b * rows + (rows == 1 ? 0 : r)) * channels + c;
    *to = r == 0 || rows > 1 ? value : *to + value;
  };
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t r = 0; r < p.regions; ++r) {
      const float* sums = p.partial + (b * p.chunks * p.terms) * plane + r * channels + c;
      const float grad = sums[0], product = sums[plane];
      const float factor = norm_factor(1.0f, vector_of(p.scale, p.scale_rows, b, r, channels)[c]);
      add(p.grad_scale, p.scale_rows, b, r, product * weight + grad * bias);
      add(p.grad_shift, p.shift_rows, b, r, grad);
      if (p.terms > 2) add(p.grad_gate, p.gate_rows, b, r, sums[2 * plane]);
      grad_weight += product * factor;
      grad_bias += grad * factor;
    }
  if (p.grad_weight) p.grad_weight[c] = grad_weight;
  if (p.grad_bias) p.grad_bias[c] = grad_bias;
}

template <class... Pointers>
bool are_aligned(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

/// Whether the vectors can be read 16 bytes at a time.
template <class T>
bool has_aligned_vectors(const EmotionNorm<T>& p) {
  return p.channels % kWidth<T> == 0 && are_aligned(p.scale, p.weight, p.bias, p.gate);
}

/// Threads of a block of groups of that size.
constexpr int block_of(int group) {
  return group > 32 ? group : 128;
}

/// Launches `kernel` over `count` tokens or chunks in groups of `size` threads, at most as many blocks as `most`.
template <class Params>
void launch_groups(const char* name, void (*kernel)(Params, Groups), const Params& p, int64_t count, int size,
                   int64_t most = INT64_MAX) {
  const int block = block_of(size);
  const int64_t per_block = size > 32 ? 1 : block / size;
  if (count > INT32_MAX / 2) throw std::runtime_error(std::string(name) + ": too many tokens for one launch");
  const unsigned blocks = grid_size(minimum((count + per_block - 1) / per_block, most), name);
  const Groups groups = {size, static_cast<uint32_t>(count), static_cast<uint32_t>(blocks * per_block)};
  launch_kernel(name, kernel, blocks, block, 0, p, p, groups);
}

/// Blocks of a kernel that fill the device: the rest of the tokens come to the same blocks.
template <class Params>
int64_t resident_blocks(const Launch& launch, void (*kernel)(Params, Groups), int threads) {
  int processors = 0, blocks = 0;
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, launch.device), "emotion_norm");
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, 0), "emotion_norm");
  return int64_t(processors) * maximum(blocks, 1);
}

/// Types are mixed only where there is a residual.
template <class T>
constexpr bool kMixed = !std::is_same_v<typename EmotionNorm<T>::Token, typename EmotionNorm<T>::Stream>;

}  // namespace

template <class T>
int64_t emotion_norm_forward_cuda(const EmotionNormForward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t tokens = p.batch * p.tokens;
  if (tokens == 0 || p.channels == 0) return -1;
  if (p.channels <= kItems * (p.residual ? kMostForward<true> : kMostForward<false>) && has_aligned_vectors(p) &&
      are_aligned(p.x, p.residual, p.y, p.residual_out, p.shift)) {
    const int size = group_size(p.channels);
    const auto kernel =
        p.residual ? emotion_norm_forward_group_kernel<T, true> : emotion_norm_forward_group_kernel<T, kMixed<T>>;
    launch_groups("emotion_norm_forward_group_kernel", kernel, p, tokens, size,
                  resident_blocks(p, kernel, block_of(size)));
  } else {
    launch_groups("emotion_norm_forward_loop_kernel", emotion_norm_forward_loop_kernel<T>, p, tokens,
                  loop_group_size(p.channels));
  }
  return -1;
}

template <class T>
int64_t emotion_norm_backward_cuda(const EmotionNormBackward<T>& p) {
  const DeviceGuard guard(p);
  const int64_t chunks = p.batch * p.chunks;
  if (p.channels == 0) return -1;
  const VectorGradients vectors(p);
  if (chunks > 0) {
    if (p.channels <= kItems * kMostBackward && has_aligned_vectors(p) &&
        are_aligned(p.x, p.hidden, p.grad_y, p.grad_x, p.grad_residual_out, p.grad_hidden)) {
      const auto kernel = p.gate || p.grad_x ? emotion_norm_backward_group_kernel<T, true>
                                             : emotion_norm_backward_group_kernel<T, kMixed<T>>;
      launch_groups("emotion_norm_backward_group_kernel", kernel, p, chunks, group_size(p.channels));
    } else {
      launch_groups("emotion_norm_backward_loop_kernel", emotion_norm_backward_loop_kernel<T>, p, chunks,
                    loop_group_size(p.channels));
    }
    const int64_t columns = vectors.terms * p.regions * p.channels, tiles = (columns + 31) / 32 * p.batch;
    const char* name = "emotion_norm_sum_chunks_kernel";
    launch_kernel(name, emotion_norm_sum_chunks_kernel, grid_size(tiles, name), dim3(32, kSumWarps), 0, p, p.partial,
                  p.chunks, columns);
  }
  const unsigned blocks = grid_size((p.channels + kFinishThreads - 1) / kFinishThreads, "emotion_norm_finish_kernel");
  launch_kernel("emotion_norm_finish_kernel", emotion_norm_finish_kernel, blocks, kFinishThreads, 0, p, vectors);
  return -1;
}

#define EMOGS_INSTANTIATE(...)                                                        \
  template int64_t emotion_norm_forward_cuda(const EmotionNormForward<__VA_ARGS__>&); \
  template int64_t emotion_norm_backward_cuda(const EmotionNormBackward<__VA_ARGS__>&);
EMOGS_INSTANTIATE(float)
EMOGS_FOR_NORM_HALVES(EMOGS_INSTANTIATE)

}  // namespace emogs
