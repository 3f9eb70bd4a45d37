// Rig frames on the CPU, parallel over the faces of all meshes. Backward writes one gradient per corner, then sums
// those of each vertex in the order of faces.
#include "common/groups.h"
#include "common/threads.h"
#include "math/rig.h"
#include "rig/rig.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

template <class T>
Vec3<T> vertex_at(const T* vertices, int64_t index) {
  return {vertices[3 * index], vertices[3 * index + 1], vertices[3 * index + 2]};
}

template <class T>
Triangle<T> triangle_at(const RigFramesForward<T>& p, const T* vertices, int64_t face) {
  const int32_t* corner = p.corners + 3 * face;
  return {vertex_at(vertices, corner[0]), vertex_at(vertices, corner[1]), vertex_at(vertices, corner[2])};
}

}  // namespace

template <class T>
void rig_frames_forward(const RigFramesForward<T>& p) {
#pragma omp parallel for num_threads(threads_for(p.threads, p.batch* p.faces, 1024)) schedule(static)
  for (int64_t at = 0; at < p.batch * p.faces; at++) {
    const int64_t mesh = at / p.faces, face = at % p.faces;
    reinterpret_cast<Frame<T>*>(p.frames)[at] =
        triangle_frame(triangle_at(p, p.rest, face), triangle_at(p, p.vertices + 3 * mesh * p.count, face));
  }
}

template <class T>
void rig_frames_backward(const RigFramesBackward<T>& p) {
#pragma omp parallel for num_threads(threads_for(p.threads, p.batch* p.faces, 1024)) schedule(static)
  for (int64_t at = 0; at < p.batch * p.faces; at++) {
    const int64_t mesh = at / p.faces, face = at % p.faces;
    reinterpret_cast<Triangle<T>*>(p.corner_grads)[at] =
        triangle_frame_backward(triangle_at(p, p.rest, face), triangle_at(p, p.vertices + 3 * mesh * p.count, face),
                                reinterpret_cast<const Frame<T>*>(p.grad_frames)[at]);
  }
  int64_t* starts = p.vertex_lists;
  int64_t* corners = p.vertex_lists + p.count + 1;
  group_by_key(
      3 * p.faces, p.count, starts, [&](int64_t i) { return p.corners[i]; },
      [&](int64_t i, int64_t at) { corners[at] = i; });
#pragma omp parallel for num_threads(threads_for(p.threads, p.batch* p.count, 4096)) schedule(static)
  for (int64_t at = 0; at < p.batch * p.count; at++) {
    const int64_t mesh = at / p.count, vertex = at % p.count;
    Vec3<T> sum = {T(0), T(0), T(0)};
    for (int64_t c = starts[vertex]; c < starts[vertex + 1]; c++)
      sum = sum + vertex_at(p.corner_grads, mesh * 3 * p.faces + corners[c]);
    reinterpret_cast<Vec3<T>*>(p.grad_vertices)[at] = sum;
  }
}

#define EMOGS_INSTANTIATE(T)                                    \
  template void rig_frames_forward(const RigFramesForward<T>&); \
  template void rig_frames_backward(const RigFramesBackward<T>&);
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)

}  // namespace EMOGS_ISA
}  // namespace emogs
