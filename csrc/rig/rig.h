// The shape contract of rig frames: the frame of every face of a deformed mesh relative to its rest place.
// B meshes, V vertices, F faces. math/rig.h defines the frame, which is made of the sums of deformation gradients at
// the corners of a face. Scratch is for M meshes: on CUDA all of them, on the CPU one, which takes one mesh after the
// other.
#pragma once

#include <stdint.h>

#include "common/isa.h"
#include "common/launch.h"

namespace emogs {

template <class T>
struct RigFramesForward : Launch {
  int64_t batch, count, faces;  // B, V, F
  const T* vertices;            // [B, V, 3]
  const int32_t* corners;       // [F, 3] vertices of a face
  const T* rest;                // [V, 3]
  T* face_gradients;            // [M, F, 3, 3] scratch; on CUDA, M is B + 1 here: the rest mesh is the last
  int64_t* vertex_lists;        // [V + 1 + 3 F] the ends of the vertices' lists of corners, and the lists; out on the
                                // CPU, given on CUDA
  T* gradients;                 // [B + 1, V, 3, 3] out: of a vertex, sums of face_gradients, of these around faces, and
                                // of those; the rest mesh is the last
  T* frames;                    // [B, F, 8] out: quaternion wxyz, translation, scale

  template <class Reader>
  void visit(Reader& field) {
    field("batch", batch), field("count", count), field("faces", faces);
    field("vertices", vertices), field("corners", corners), field("rest", rest);
    field("face_gradients", face_gradients), field("vertex_lists", vertex_lists), field("gradients", gradients);
    field("frames", frames);
  }
};

// `gradients` and `vertex_lists` are forward's; `frames` is not read. Scratch is written anew.
template <class T>
struct RigFramesBackward : RigFramesForward<T> {
  const T* grad_frames;  // [B, F, 8]
  T* corner_grads;       // [M, F, 3, 3] scratch
  T* vertex_grads;       // [M, V, 3, 3] scratch: sums of the gradients' gradients
  T* grad_vertices;      // [B, V, 3] out

  template <class Reader>
  void visit(Reader& field) {
    RigFramesForward<T>::visit(field);
    field("grad_frames", grad_frames), field("corner_grads", corner_grads), field("vertex_grads", vertex_grads);
    field("grad_vertices", grad_vertices);
  }
};

EMOGS_CPU_KERNEL(void, rig_frames_forward, RigFramesForward)
EMOGS_CPU_KERNEL(void, rig_frames_backward, RigFramesBackward)

template <class T>  // float
void rig_frames_forward_cuda(const RigFramesForward<T>& params);
template <class T>
void rig_frames_backward_cuda(const RigFramesBackward<T>& params);

}  // namespace emogs
