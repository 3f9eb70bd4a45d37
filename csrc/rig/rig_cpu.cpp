// Rig frames on the CPU, mesh by mesh, parallel over the faces or vertices of one, a register of faces at a time. Sums
// at vertices are made in the order of faces; around faces they are their own transpose, so backward makes the same
// ones.
#include <string.h>

#include "common/columns.h"
#include "common/groups.h"
#include "common/lanes.h"
#include "common/threads.h"
#include "math/rig.h"
#include "rig/rig.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

constexpr int kBlock = 64;    // faces; a multiple of every register
constexpr int kGrain = 1024;  // faces or vertices that are worth a thread

template <class T>
using Matrices = Columns<T, 9, kBlock>;  // or triangles

template <class T>
Vec3<Lanes<T>> vec3_at(const Matrices<T>& columns, int column, int first) {
  return {columns.get(column, first), columns.get(column + 1, first), columns.get(column + 2, first)};
}

template <class T>
Triangle<Lanes<T>> triangle_at(const Matrices<T>& columns, int first) {
  return {vec3_at(columns, 0, first), vec3_at(columns, 3, first), vec3_at(columns, 6, first)};
}

template <class T>
Mat3<Lanes<T>> matrix_at(const Matrices<T>& columns, int first) {
  return {vec3_at(columns, 0, first), vec3_at(columns, 3, first), vec3_at(columns, 6, first)};
}

template <class T>
void set_rows(Matrices<T>& columns, int first, Vec3<Lanes<T>> row0, Vec3<Lanes<T>> row1, Vec3<Lanes<T>> row2) {
  const Lanes<T> values[9] = {row0.x, row0.y, row0.z, row1.x, row1.y, row1.z, row2.x, row2.y, row2.z};
  for (int column = 0; column < 9; column++) columns.set(column, first, values[column]);
}

/// Nine scalars in a row; eight of them are added at once.
template <class T>
struct Nine {
  typedef T Eight __attribute__((vector_size(8 * sizeof(T))));

  Eight first;
  T last;

  static EMOGS_HD_MEMBER Nine load(const T* from) {
    Nine nine;
    memcpy(&nine.first, from, sizeof nine.first);
    nine.last = from[8];
    return nine;
  }
  EMOGS_HD_MEMBER void store(T* to) const {
    memcpy(to, &first, sizeof first);
    to[8] = last;
  }
  friend EMOGS_HD_MEMBER Nine operator+(const Nine& a, const Nine& b) { return {a.first + b.first, a.last + b.last}; }
};

/// The triangles of `count` faces from the first with these corners.
template <class T>
void read_triangles(Matrices<T>& to, const T* vertices, const int32_t* corners, int count) {
  for (int i = 0; i < kBlock; i++)
    for (int j = 0; j < 3; j++) {
      const T* from = vertices + 3 * int64_t(corners[i < count ? 3 * i + j : 0]);
      for (int k = 0; k < 3; k++) to.at[3 * j + k][i] = from[k];
    }
}

/// The sums of the matrices at the corners of `count` faces.
template <class T>
EMOGS_HD void write_sums(T* to, const T* matrices, const int32_t* corners, int count) {
  const auto at = [&](int64_t corner) { return Nine<T>::load(matrices + 9 * int64_t(corners[corner])); };
  for (int64_t i = 0; i < count; i++) (at(3 * i) + at(3 * i + 1) + at(3 * i + 2)).store(to + 9 * i);
}

template <class T>
void read_sums(Matrices<T>& to, const T* matrices, const int32_t* corners, int count) {
  T rows[9 * kBlock];
  write_sums(rows, matrices, corners, count);
  to.read(rows, count);
}

/// body(first face, faces) for every block of a mesh.
template <class T, class Body>
void for_each_block(const RigFramesForward<T>& p, const Body& body) {
#pragma omp parallel for num_threads(threads_for(p.threads, p.faces, kGrain)) schedule(static)
  for (int64_t first = 0; first < p.faces; first += kBlock) body(first, int(minimum(int64_t(kBlock), p.faces - first)));
}

/// What belongs to the faces around each vertex, summed.
template <class T>
void sum_at_vertices(const RigFramesForward<T>& p, const T* from, T* to) {
  const int64_t *starts = p.vertex_lists, *corners = p.vertex_lists + p.count + 1;
#pragma omp parallel for num_threads(threads_for(p.threads, p.count, kGrain)) schedule(static)
  for (int64_t vertex = 0; vertex < p.count; vertex++) {
    Nine<T> sum = {};
    for (int64_t at = starts[vertex]; at < starts[vertex + 1]; at++)
      sum = sum + Nine<T>::load(from + 9 * (corners[at] / 3));
    sum.store(to + 9 * vertex);
  }
}

/// What the faces of a mesh hold is summed at vertices, then around faces, then at vertices again.
template <class T>
void spread(const RigFramesForward<T>& p, T* faces, T* vertices) {
  sum_at_vertices(p, faces, vertices);
  for_each_block(
      p, [&](int64_t first, int count) { write_sums(faces + 9 * first, vertices, p.corners + 3 * first, count); });
  sum_at_vertices(p, faces, vertices);
}

/// Deformation gradients of a mesh's faces, summed at its vertices.
template <class T>
void sum_gradients(const RigFramesForward<T>& p, const T* vertices, T* gradients) {
  for_each_block(p, [&](int64_t first, int count) {
    Matrices<T> rest, moved, out;
    read_triangles(rest, p.rest, p.corners + 3 * first, count);
    if (vertices != p.rest) read_triangles(moved, vertices, p.corners + 3 * first, count);
    const Matrices<T>& deformed = vertices == p.rest ? rest : moved;
    for (int i = 0; i < count; i += Lanes<T>::count) {
      const Mat3<Lanes<T>> gradient = triangle_gradient(triangle_at(rest, i), triangle_at(deformed, i));
      set_rows(out, i, gradient.row0, gradient.row1, gradient.row2);
    }
    out.write(p.face_gradients + 9 * first, count);
  });
  spread(p, p.face_gradients, gradients);
}

/// What the frames of a block of faces are made of; `read_mesh` before `at`.
template <class T>
struct Block {
  const RigFramesForward<T>& p;
  const int32_t* corners;
  int count;
  Matrices<T> rest, deformed, rest_sums, sums;

  Block(const RigFramesForward<T>& params, int64_t first, int faces)
      : p(params), corners(params.corners + 3 * first), count(faces) {
    read_triangles(rest, p.rest, corners, count);
    read_sums(rest_sums, p.gradients + 9 * p.batch * p.count, corners, count);
  }

  void read_mesh(int64_t mesh) {
    read_triangles(deformed, p.vertices + 3 * mesh * p.count, corners, count);
    read_sums(sums, p.gradients + 9 * mesh * p.count, corners, count);
  }

  TriangleSurroundings<Lanes<T>> at(int i) const {
    return {triangle_at(rest, i), triangle_at(deformed, i), matrix_at(rest_sums, i), matrix_at(sums, i)};
  }
};

template <class T>
void write_frames(const RigFramesForward<T>& p) {
  for_each_block(p, [&](int64_t first, int count) {
    Block<T> block(p, first, count);
    Columns<T, 8, kBlock> out;
    for (int64_t mesh = 0; mesh < p.batch; mesh++) {
      block.read_mesh(mesh);
      for (int i = 0; i < count; i += Lanes<T>::count) {
        const Frame<Lanes<T>> frame = triangle_frame(block.at(i));
        const Quat<Lanes<T>> q = frame.rotation;
        const Vec3<Lanes<T>> t = frame.translation;
        const Lanes<T> values[8] = {q.w, q.x, q.y, q.z, t.x, t.y, t.z, frame.scale};
        for (int k = 0; k < 8; k++) out.set(k, i, values[k]);
      }
      out.write(p.frames + 8 * (mesh * p.faces + first), count);
    }
  });
}

/// Gradients of a mesh's own corners, and those of the sums around faces.
template <class T>
void frames_to_sums(const RigFramesBackward<T>& p, int64_t mesh) {
  for_each_block(p, [&](int64_t first, int count) {
    Block<T> block(p, first, count);
    block.read_mesh(mesh);
    Columns<T, 8, kBlock> grads;
    grads.read(p.grad_frames + 8 * (mesh * p.faces + first), count);
    Matrices<T> corners, sums;
    for (int i = 0; i < count; i += Lanes<T>::count) {
      const auto g = [&](int k) { return grads.get(k, i); };
      const Frame<Lanes<T>> frame = {{g(0), g(1), g(2), g(3)}, {g(4), g(5), g(6)}, g(7)};
      const TriangleFrameGrad<Lanes<T>> grad = triangle_frame_backward(block.at(i), frame);
      set_rows(corners, i, grad.deformed.a, grad.deformed.b, grad.deformed.c);
      set_rows(sums, i, grad.sums.row0, grad.sums.row1, grad.sums.row2);
    }
    corners.write(p.corner_grads + 9 * first, count);
    sums.write(p.face_gradients + 9 * first, count);
  });
  spread(p, p.face_gradients, p.vertex_grads);
}

template <class T>
void sums_to_corners(const RigFramesBackward<T>& p) {
  for_each_block(p, [&](int64_t first, int count) {
    Matrices<T> rest, sums, out;
    read_triangles(rest, p.rest, p.corners + 3 * first, count);
    read_sums(sums, p.vertex_grads, p.corners + 3 * first, count);
    out.read(p.corner_grads + 9 * first, count);
    for (int i = 0; i < count; i += Lanes<T>::count) {
      const Triangle<Lanes<T>> own = triangle_at(out, i);
      const Triangle<Lanes<T>> grad = triangle_gradient_backward(triangle_at(rest, i), matrix_at(sums, i));
      set_rows(out, i, own.a + grad.a, own.b + grad.b, own.c + grad.c);
    }
    out.write(p.corner_grads + 9 * first, count);
  });
}

template <class T>
void sum_corners(const RigFramesBackward<T>& p, T* grad_vertices) {
  const int64_t *starts = p.vertex_lists, *corners = p.vertex_lists + p.count + 1;
#pragma omp parallel for num_threads(threads_for(p.threads, p.count, kGrain)) schedule(static)
  for (int64_t vertex = 0; vertex < p.count; vertex++) {
    Vec3<T> sum = {T(0), T(0), T(0)};
    for (int64_t at = starts[vertex]; at < starts[vertex + 1]; at++) {
      const T* corner = p.corner_grads + 3 * corners[at];
      sum = sum + Vec3<T>{corner[0], corner[1], corner[2]};
    }
    reinterpret_cast<Vec3<T>*>(grad_vertices)[vertex] = sum;
  }
}

}  // namespace

template <class T>
void rig_frames_forward(const RigFramesForward<T>& p) {
  int64_t* lists = p.vertex_lists + p.count + 1;
  group_by_key(
      3 * p.faces, p.count, p.vertex_lists, [&](int64_t i) { return p.corners[i]; },
      [&](int64_t i, int64_t at) { lists[at] = i; });
  sum_gradients(p, p.rest, p.gradients + 9 * p.batch * p.count);
  for (int64_t mesh = 0; mesh < p.batch; mesh++)
    sum_gradients(p, p.vertices + 3 * mesh * p.count, p.gradients + 9 * mesh * p.count);
  write_frames(p);
}

template <class T>
void rig_frames_backward(const RigFramesBackward<T>& p) {
  for (int64_t mesh = 0; mesh < p.batch; mesh++) {
    frames_to_sums(p, mesh);
    sums_to_corners(p);
    sum_corners(p, p.grad_vertices + 3 * mesh * p.count);
  }
}

#define EMOGS_INSTANTIATE(T)                                    \
  template void rig_frames_forward(const RigFramesForward<T>&); \
  template void rig_frames_backward(const RigFramesBackward<T>&);
EMOGS_FOR_FLOATS(EMOGS_INSTANTIATE)

}  // namespace EMOGS_ISA
}  // namespace emogs
