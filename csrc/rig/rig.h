// The shape contract of rig frames: the frame of every face of a deformed mesh relative to its rest place.
// B meshes, V vertices, F faces. math/rig.h defines the frame.
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
  T* frames;                    // [B, F, 8] out: quaternion wxyz, translation, scale

  template <class Reader>
  void visit(Reader& field) {
    field("batch", batch), field("count", count), field("faces", faces);
    field("vertices", vertices), field("corners", corners), field("rest", rest), field("frames", frames);
  }
};

template <class T>
struct RigFramesBackward : RigFramesForward<T> {  // `frames` is not read
  const T* grad_frames;                           // [B, F, 8]
  T* corner_grads;                                // [B, F, 3, 3] scratch
  int64_t* vertex_lists;  // [V + 1 + 3 F] the ends of the vertices' lists of corners, and the lists; scratch on the
                          // CPU, given on CUDA
  T* grad_vertices;       // [B, V, 3] out

  template <class Reader>
  void visit(Reader& field) {
    RigFramesForward<T>::visit(field);
    field("grad_frames", grad_frames), field("corner_grads", corner_grads), field("vertex_lists", vertex_lists);
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
