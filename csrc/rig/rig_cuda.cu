// Rig frames on CUDA, a thread a face of a mesh; sums at vertices, of deformation gradients and, in backward, of what
// comes back to them and to corners, by a thread a vertex in the order of faces, like the CPU. Bytes from memory: 36 a
// face and mesh written and read for each of these sums, 32 of frames, 12 of corners; the rest is gathered from the
// caches. Faces that name no vertex get NaN, take no part in sums and pass no gradient.
#include "common/cuda_launch.h"
#include "math/rig.h"
#include "rig/rig.h"

namespace emogs {
namespace {

constexpr int kThreads = 128;

/// A face of a mesh, and its corners if they exist.
struct Face {
  int64_t mesh;
  int32_t corners[3];
  bool exists;
};

__device__ __forceinline__ Face face_at(const RigFramesForward<float>& p, int64_t at) {
  Face face = {at / p.faces, {}, true};
#pragma unroll
  for (int j = 0; j < 3; j++) {
    face.corners[j] = p.corners[3 * (at % p.faces) + j];
    face.exists = face.exists && face.corners[j] >= 0 && face.corners[j] < p.count;
  }
  return face;
}

__device__ __forceinline__ Vec3<float> load_vec3(const float* from) {
  return {from[0], from[1], from[2]};
}

__device__ __forceinline__ Triangle<float> triangle_at(const float* vertices, const Face& face) {
  return {load_vec3(vertices + 3 * int64_t(face.corners[0])), load_vec3(vertices + 3 * int64_t(face.corners[1])),
          load_vec3(vertices + 3 * int64_t(face.corners[2]))};
}

__device__ __forceinline__ Mat3<float> load_mat3(const float* from) {
  return {load_vec3(from), load_vec3(from + 3), load_vec3(from + 6)};
}

__device__ __forceinline__ void store_rows(float* to, Vec3<float> a, Vec3<float> b, Vec3<float> c) {
  const float values[9] = {a.x, a.y, a.z, b.x, b.y, b.z, c.x, c.y, c.z};
#pragma unroll
  for (int k = 0; k < 9; k++) to[k] = values[k];
}

/// The sum of the matrices [V, 3, 3] at a face's corners.
__device__ __forceinline__ Mat3<float> sum_at(const float* matrices, const Face& face) {
  return load_mat3(matrices + 9 * int64_t(face.corners[0])) + load_mat3(matrices + 9 * int64_t(face.corners[1])) +
         load_mat3(matrices + 9 * int64_t(face.corners[2]));
}

__device__ __forceinline__ TriangleSurroundings<float> surroundings_at(const RigFramesForward<float>& p,
                                                                       const Face& face) {
  return {triangle_at(p.rest, face), triangle_at(p.vertices + 3 * face.mesh * p.count, face),
          sum_at(p.gradients + 9 * p.batch * p.count, face), sum_at(p.gradients + 9 * face.mesh * p.count, face)};
}

/// Deformation gradients of all faces of all meshes and, behind them, of the rest mesh.
__global__ void __launch_bounds__(kThreads) rig_gradients_kernel(RigFramesForward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= (p.batch + 1) * p.faces) return;
  const Face face = face_at(p, at);
  const float* vertices = face.mesh < p.batch ? p.vertices + 3 * face.mesh * p.count : p.rest;
  Mat3<float> gradient = {};
  if (face.exists) gradient = triangle_gradient(triangle_at(p.rest, face), triangle_at(vertices, face));
  store_rows(p.face_gradients + 9 * at, gradient.row0, gradient.row1, gradient.row2);
}

/// What belongs to the corners around each vertex of each mesh, summed: kWidth scalars, which kShare corners in a row
/// have in common.
template <int kWidth, int kShare>
__global__ void __launch_bounds__(kThreads)
    rig_sum_kernel(RigFramesForward<float> p, int64_t meshes, const float* from, float* to) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= meshes * p.count) return;
  const int64_t mesh = at / p.count, vertex = at % p.count;
  const int64_t* corners = p.vertex_lists + p.count + 1;
  const int64_t begin = maximum(p.vertex_lists[vertex], int64_t(0));
  const int64_t end = minimum(p.vertex_lists[vertex + 1], 3 * p.faces);
  float sum[kWidth] = {};
  for (int64_t c = begin; c < end; c++) {
    if (uint64_t(corners[c]) >= uint64_t(3 * p.faces)) continue;  // of lists that are not forward's
    const float* item = from + kWidth * (mesh * (3 / kShare) * p.faces + corners[c] / kShare);
#pragma unroll
    for (int k = 0; k < kWidth; k++) sum[k] += item[k];
  }
#pragma unroll
  for (int k = 0; k < kWidth; k++) to[kWidth * at + k] = sum[k];
}

/// What belongs to the corners of each face of each mesh, summed.
__global__ void __launch_bounds__(kThreads)
    rig_sum_corners_kernel(RigFramesForward<float> p, int64_t meshes, const float* from, float* to) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= meshes * p.faces) return;
  const Face face = face_at(p, at);
  Mat3<float> sum = {};
  if (face.exists) sum = sum_at(from + 9 * face.mesh * p.count, face);
  store_rows(to + 9 * at, sum.row0, sum.row1, sum.row2);
}

__global__ void __launch_bounds__(kThreads) rig_frames_forward_kernel(RigFramesForward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= p.batch * p.faces) return;
  const Face face = face_at(p, at);
  const float nan = __builtin_nanf("");
  Frame<float> frame = {{nan, nan, nan, nan}, {nan, nan, nan}, nan};
  if (face.exists) frame = triangle_frame(surroundings_at(p, face));
  float4* to = reinterpret_cast<float4*>(p.frames) + 2 * at;
  to[0] = make_float4(frame.rotation.w, frame.rotation.x, frame.rotation.y, frame.rotation.z);
  to[1] = make_float4(frame.translation.x, frame.translation.y, frame.translation.z, frame.scale);
}

/// Gradients of the faces' own corners, and of the sums around faces.
__global__ void __launch_bounds__(kThreads) rig_frames_backward_kernel(RigFramesBackward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= p.batch * p.faces) return;
  const Face face = face_at(p, at);
  const float* g = p.grad_frames + 8 * at;
  TriangleFrameGrad<float> grad = {};
  if (face.exists)
    grad = triangle_frame_backward(surroundings_at(p, face), {{g[0], g[1], g[2], g[3]}, {g[4], g[5], g[6]}, g[7]});
  store_rows(p.corner_grads + 9 * at, grad.deformed.a, grad.deformed.b, grad.deformed.c);
  store_rows(p.face_gradients + 9 * at, grad.sums.row0, grad.sums.row1, grad.sums.row2);
}

/// Adds what comes back to a face's deformation gradient to the gradients of its corners.
__global__ void __launch_bounds__(kThreads) rig_gradients_backward_kernel(RigFramesBackward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= p.batch * p.faces) return;
  const Face face = face_at(p, at);
  if (!face.exists) return;
  const Mat3<float> sums = sum_at(p.vertex_grads + 9 * face.mesh * p.count, face);
  const Triangle<float> grad = triangle_gradient_backward(triangle_at(p.rest, face), sums);
  float* to = p.corner_grads + 9 * at;
  store_rows(to, load_vec3(to) + grad.a, load_vec3(to + 3) + grad.b, load_vec3(to + 6) + grad.c);
}

/// A thread for each of `items`, none if there are none.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), int64_t items, const Launch& where,
            const Arguments&... arguments) {
  if (items > 0)
    launch_kernel(name, kernel, grid_size((items + kThreads - 1) / kThreads, name), kThreads, 0, where, arguments...);
}

/// What the faces of a mesh hold is summed at vertices, then around faces, then at vertices again.
void spread(const RigFramesForward<float>& p, int64_t meshes, float* faces, float* vertices) {
  launch("rig_sum_kernel", rig_sum_kernel<9, 3>, meshes * p.count, p, p, meshes, faces, vertices);
  launch("rig_sum_corners_kernel", rig_sum_corners_kernel, meshes * p.faces, p, p, meshes, vertices, faces);
  launch("rig_sum_kernel", rig_sum_kernel<9, 3>, meshes * p.count, p, p, meshes, faces, vertices);
}

}  // namespace

template <class T>
void rig_frames_forward_cuda(const RigFramesForward<T>& p) {
  const DeviceGuard guard(p);
  if (reinterpret_cast<uintptr_t>(p.frames) % 16 != 0)
    throw std::runtime_error("rig_frames_forward: frames must be aligned to 16 bytes");
  launch("rig_gradients_kernel", rig_gradients_kernel, (p.batch + 1) * p.faces, p, p);
  spread(p, p.batch + 1, p.face_gradients, p.gradients);
  launch("rig_frames_forward_kernel", rig_frames_forward_kernel, p.batch * p.faces, p, p);
}

template <class T>
void rig_frames_backward_cuda(const RigFramesBackward<T>& p) {
  const DeviceGuard guard(p);
  launch("rig_frames_backward_kernel", rig_frames_backward_kernel, p.batch * p.faces, p, p);
  spread(p, p.batch, p.face_gradients, p.vertex_grads);
  launch("rig_gradients_backward_kernel", rig_gradients_backward_kernel, p.batch * p.faces, p, p);
  launch("rig_sum_kernel", rig_sum_kernel<3, 1>, p.batch * p.count, p, static_cast<const RigFramesForward<T>&>(p),
         p.batch, static_cast<const float*>(p.corner_grads), p.grad_vertices);
}

template void rig_frames_forward_cuda(const RigFramesForward<float>&);
template void rig_frames_backward_cuda(const RigFramesBackward<float>&);

}  // namespace emogs
