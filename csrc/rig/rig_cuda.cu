// Rig frames on CUDA, a thread a face of a mesh. Backward writes one gradient per corner, then a thread a vertex sums
// those of its list in the order of faces, like the CPU. Bytes from memory: 48 a face and mesh written or read, 12 of
// corners; vertices are gathered from the caches. Faces that name no vertex get NaN and pass no gradient.
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

__global__ void __launch_bounds__(kThreads) rig_frames_forward_kernel(RigFramesForward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= p.batch * p.faces) return;
  const Face face = face_at(p, at);
  const float nan = __builtin_nanf("");
  Frame<float> frame = {{nan, nan, nan, nan}, {nan, nan, nan}, nan};
  if (face.exists)
    frame = triangle_frame(triangle_at(p.rest, face), triangle_at(p.vertices + 3 * face.mesh * p.count, face));
  float4* to = reinterpret_cast<float4*>(p.frames) + 2 * at;
  to[0] = make_float4(frame.rotation.w, frame.rotation.x, frame.rotation.y, frame.rotation.z);
  to[1] = make_float4(frame.translation.x, frame.translation.y, frame.translation.z, frame.scale);
}

__global__ void __launch_bounds__(kThreads) rig_frames_backward_kernel(RigFramesBackward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= p.batch * p.faces) return;
  const Face face = face_at(p, at);
  const float* g = p.grad_frames + 8 * at;
  Triangle<float> grad = {};
  if (face.exists)
    grad = triangle_frame_backward(triangle_at(p.rest, face), triangle_at(p.vertices + 3 * face.mesh * p.count, face),
                                   {{g[0], g[1], g[2], g[3]}, {g[4], g[5], g[6]}, g[7]});
  const float values[9] = {grad.a.x, grad.a.y, grad.a.z, grad.b.x, grad.b.y, grad.b.z, grad.c.x, grad.c.y, grad.c.z};
#pragma unroll
  for (int j = 0; j < 9; j++) p.corner_grads[9 * at + j] = values[j];
}

__global__ void __launch_bounds__(kThreads) rig_sum_corners_kernel(RigFramesBackward<float> p) {
  const int64_t at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= p.batch * p.count) return;
  const int64_t mesh = at / p.count, vertex = at % p.count;
  const int64_t* corners = p.vertex_lists + p.count + 1;
  Vec3<float> sum = {0, 0, 0};
  for (int64_t c = p.vertex_lists[vertex]; c < p.vertex_lists[vertex + 1]; c++)
    sum = sum + load_vec3(p.corner_grads + 3 * (mesh * 3 * p.faces + corners[c]));
  p.grad_vertices[3 * at] = sum.x, p.grad_vertices[3 * at + 1] = sum.y, p.grad_vertices[3 * at + 2] = sum.z;
}

/// A thread for each of `items`, none if there are none.
template <class Params>
void launch(const char* name, void (*kernel)(Params), int64_t items, const Params& p) {
  if (items > 0) launch_kernel(name, kernel, grid_size((items + kThreads - 1) / kThreads, name), kThreads, 0, p, p);
}

}  // namespace

template <class T>
void rig_frames_forward_cuda(const RigFramesForward<T>& p) {
  const DeviceGuard guard(p);
  if (reinterpret_cast<uintptr_t>(p.frames) % 16 != 0)
    throw std::runtime_error("rig_frames_forward: frames must be aligned to 16 bytes");
  launch("rig_frames_forward_kernel", rig_frames_forward_kernel, p.batch * p.faces, p);
}

template <class T>
void rig_frames_backward_cuda(const RigFramesBackward<T>& p) {
  const DeviceGuard guard(p);
  launch("rig_frames_backward_kernel", rig_frames_backward_kernel, p.batch * p.faces, p);
  launch("rig_sum_corners_kernel", rig_sum_corners_kernel, p.batch * p.count, p);
}

template void rig_frames_forward_cuda(const RigFramesForward<float>&);
template void rig_frames_backward_cuda(const RigFramesBackward<float>&);

}  // namespace emogs
