// The end of projection's backward on CUDA: adds up, always in the same order, what the main kernel has left per slice
// of Gaussians (cameras, emotion) and per Gaussian (frames). Elements that share a camera, an emotion or a rig are
// added in the order of the batch, by the thread of the first of them.
#include "project/project_pull.cuh"

namespace emogs {
namespace {

constexpr int kSumRows = 32;

/// Column sums of [rows, columns] into the first row. A block takes 32 columns, its row of threads every 32nd row.
__global__ void __launch_bounds__(kWarp* kSumRows)
    project_sum_slices_kernel(float* sums, int64_t rows, int64_t columns) {
  __shared__ float parts[kSumRows][kWarp + 1];
  const int64_t column = blockIdx.x * int64_t(kWarp) + threadIdx.x;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (int64_t row = threadIdx.y; row < rows; row += kSumRows) sum += sums[row * columns + column];
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= columns) return;
  for (int row = 1; row < kSumRows; row++) sum += parts[row][threadIdx.x];
  sums[column] = sum;
}

/// Whether no element before this one has the same row; rows are those of all elements.
__device__ __forceinline__ bool is_first(const int32_t* rows, int64_t element) {
  for (int64_t other = 0; other < element; other++)
    if (rows[other] == rows[element]) return false;
  return true;
}

/// A warp an image: lane j adds sum j of the elements that share the camera.
__global__ void __launch_bounds__(kThreads) project_finish_cameras_kernel(ProjectBackward<float> p) {
  const int64_t image = blockIdx.x * int64_t(kWarps) + threadIdx.x / kWarp, element = image / p.cameras;
  const int lane = threadIdx.x % kWarp;
  const int32_t* rows = p.rows + p.batch;
  if (image >= p.batch * p.cameras || !is_first(rows, element)) return;
  const int64_t c = image % p.cameras;
  float sum = 0;
  for (int64_t e = element; e < p.batch; e++)
    if (rows[e] == rows[element] && lane < kCameraSums) sum += p.camera_sums[(e * p.cameras + c) * kCameraSums + lane];
  float sums[kCameraSums];
#pragma unroll
  for (int j = 0; j < kCameraSums; j++) sums[j] = __shfl_sync(0xffffffffu, sum, j);
  if (lane > 0) return;
  const CameraGrad<float> grad = {
      {{sums[0], sums[1], sums[2]}, {sums[3], sums[4], sums[5]}, {sums[6], sums[7], sums[8]}},
      {sums[9], sums[10], sums[11]},
      {sums[12], sums[13], sums[14]},
      sums[15],
      sums[16],
      sums[17],
      sums[18]};
  const int64_t at = rows[element] * p.cameras + c;
  load_camera_backward(camera_at(p, rows[element], c), grad, p.grad_viewmats + 16 * at, p.grad_Ks + 9 * at);
}

/// A thread a weight.
__global__ void __launch_bounds__(kThreads) project_finish_emotion_kernel(ProjectBackward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x, element = at / p.components, k = at % p.components;
  const int32_t* rows = p.rows + 2 * p.batch;
  if (element >= p.batch || !is_first(rows, element)) return;
  float sum = 0;
  for (int64_t e = element; e < p.batch; e++)
    if (rows[e] == rows[element]) sum += p.emotion_sums[e * p.components + k];
  p.grad_emotion[rows[element] * p.components + k] = sum;
}

constexpr int kFaceThreads = 256, kFaceWarps = kFaceThreads / kWarp, kFrame = 8;

/// Frames' gradients over the Gaussians of each face: a lane a scalar of every fourth Gaussian of the list, or, where
/// lists are long (`warps` = 8 instead of 1), of every 32nd.
__global__ void __launch_bounds__(kFaceThreads) project_sum_faces_kernel(ProjectBackward<float> p, int warps) {
  __shared__ float parts[kFaceWarps][kFrame];
  const int64_t faces = kFaceWarps / warps;  // of a block
  const int64_t blocks = (p.faces + faces - 1) / faces, element = blockIdx.x / blocks;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, column = lane % kFrame;
  const int64_t face = blockIdx.x % blocks * faces + warp / warps;
  const int32_t* rows = p.rows + 3 * p.batch;
  const bool used = face < p.faces && is_first(rows, element);
  float sum = 0;
  for (int64_t e = element; used && e < p.batch; e++) {
    if (rows[e] != rows[element]) continue;
    const float* from = p.frame_parts + e * p.count * kFrame + column;
    const int64_t* members = p.face_lists + p.faces + 1;
#pragma unroll 4
    for (int64_t m = p.face_lists[face] + warp % warps * 4 + lane / kFrame; m < p.face_lists[face + 1]; m += 4 * warps)
      sum += from[members[m] * kFrame];
  }
  sum += __shfl_xor_sync(0xffffffffu, sum, kFrame);
  sum += __shfl_xor_sync(0xffffffffu, sum, 2 * kFrame);
  if (lane < kFrame) parts[warp][lane] = sum;
  __syncthreads();
  if (!used || warp % warps > 0 || lane >= kFrame) return;
  for (int other = 1; other < warps; other++) sum += parts[warp + other][lane];
  p.grad_frames[(rows[element] * p.faces + face) * kFrame + lane] = sum;
}

void sum_slices(const ProjectBackward<float>& p, float* sums, int64_t rows, int64_t columns) {
  const char* name = "project_sum_slices_kernel";
  launch_kernel(name, project_sum_slices_kernel, grid_size((columns + kWarp - 1) / kWarp, name), dim3(kWarp, kSumRows),
                0, p, sums, rows, columns);
}

constexpr int64_t kLongList = 128;  // Gaussians a face from which a block takes it

}  // namespace

void project_sums_cuda(const ProjectBackward<float>& p, int64_t emotion_rows) {
  if (p.camera_sums) {
    const char* name = "project_finish_cameras_kernel";
    sum_slices(p, p.camera_sums, p.slices, p.batch * p.cameras * kCameraSums);
    launch_kernel(name, project_finish_cameras_kernel, grid_size((p.batch * p.cameras + kWarps - 1) / kWarps, name),
                  kThreads, 0, p, p);
  }
  if (p.emotion_sums && p.components > 0) {
    const char* name = "project_finish_emotion_kernel";
    sum_slices(p, p.emotion_sums, emotion_rows, p.batch * p.components);
    launch_kernel(name, project_finish_emotion_kernel,
                  grid_size((p.batch * p.components + kThreads - 1) / kThreads, name), kThreads, 0, p, p);
  }
  if (p.frame_parts && p.faces > 0) {
    const char* name = "project_sum_faces_kernel";
    const int warps = p.count / p.faces < kLongList ? 1 : kFaceWarps;
    const int64_t faces = kFaceWarps / warps, blocks = (p.faces + faces - 1) / faces;
    launch_kernel(name, project_sum_faces_kernel, grid_size(blocks * p.batch, name), kFaceThreads, 0, p, p, warps);
  }
}

}  // namespace emogs
