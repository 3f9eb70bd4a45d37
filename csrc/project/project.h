// The shape contract of the projection stage: modulate by emotion, carry by the rig, project, evaluate colours.
// P batch elements, C cameras, N Gaussians, D output channels, S harmonics, K basis components, F faces. Inputs have
// rows of their own, G for Gaussians, V cameras, E emotions and R rigs; `rows` says which of each a batch element uses.
#pragma once

#include <stdint.h>

#include "common/half.h"
#include "common/isa.h"
#include "common/launch.h"

namespace emogs {

template <class T>
struct ProjectForward : Launch {
  int64_t batch, cameras, count, channels, harmonics, components, faces;  // P, C, N, D, S (0: plain colours), K, F
  int64_t gaussian_rows;                                                  // G
  int width, height;
  int model;                                       // math/camera.h's CameraModel, of all cameras
  double alpha_cut, blur, near, far, radius_clip;  // math/splat.h's SplatSettings
  bool antialiased;
  const int32_t* rows;  // [4, P] row of the Gaussians, cameras, emotion and rig of a batch element

  const T* means;      // [G, N, 3] world or face coordinates
  const T* quats;      // [G, N, 4] wxyz, any norm but zero
  const T* scales;     // [G, N, 3]
  const T* opacities;  // [G, N]
  const T* colors;     // [G, N, D], or harmonics [G, N, S, 3]
  const T* viewmats;   // [V, C, 4, 4] world to camera
  const T* Ks;         // [V, C, 3, 3] pixels

  const T* emotion;                    // [E, K] or null; every basis field may be null too, or float16
  MaybeHalf<T> basis_means;            // [K, N, 3]
  MaybeHalf<T> basis_rotations;        // [K, N, 3] radians
  MaybeHalf<T> basis_log_scales;       // [K, N, 3]
  MaybeHalf<T> basis_logit_opacities;  // [K, N]
  MaybeHalf<T> basis_colors;           // [K, N, D], or [K, N, 3] added to the first harmonic
  const int32_t* binding;              // [N] face of each Gaussian, or null
  const T* frames;                     // [R, F, 8] quaternion wxyz, translation, scale

  T* splats;         // [P, C, N, 8] out: math/splat.h's Splat
  T* splat_colors;   // [P, C, N, D] out; zero where culled
  T* splat_normals;  // [P, C, N, 3] out, unit vectors that face the camera, zero where culled; or null
  int64_t* culled;  // [P, C, 2] out: Gaussians outside the view, too faint or too small, and non-finite ones; must come
                    // zeroed

  template <class Reader>
  void visit(Reader& field) {
    field("batch", batch), field("cameras", cameras), field("count", count), field("channels", channels);
    field("harmonics", harmonics), field("components", components), field("faces", faces);
    field("gaussian_rows", gaussian_rows);
    field("width", width), field("height", height), field("model", model);
    field("alpha_cut", alpha_cut), field("blur", blur), field("near", near), field("far", far);
    field("radius_clip", radius_clip), field("antialiased", antialiased);
    field("rows", rows);
    field("means", means), field("quats", quats), field("scales", scales), field("opacities", opacities);
    field("colors", colors), field("viewmats", viewmats), field("Ks", Ks);
    field("emotion", emotion), field("basis_means", basis_means), field("basis_rotations", basis_rotations);
    field("basis_log_scales", basis_log_scales), field("basis_logit_opacities", basis_logit_opacities);
    field("basis_colors", basis_colors), field("binding", binding), field("frames", frames);
    field("splats", splats), field("splat_colors", splat_colors);
    field("splat_normals", splat_normals), field("culled", culled);
  }
};

// Sums over Gaussians (cameras, emotion) are made per slice of Gaussians and then over slices in order, so that neither
// the thread count nor the schedule can show; on CUDA a slice has 32 Gaussians. `culled`, `splat_colors` and
// `splat_normals` are not read.
template <class T>
struct ProjectBackward : ProjectForward<T> {
  int64_t slices;               // Q
  const T* grad_splats;         // [P, C, N, 8]; the last field is not read
  const T* grad_splat_colors;   // [P, C, N, D]
  const T* grad_splat_normals;  // [P, C, N, 3], or null
  T* camera_sums;               // [Q, P, C, 19] scratch, or null if no camera gradient is wanted
  T* emotion_sums;              // [Q, P, K] scratch, or null if no emotion gradient is wanted
  T* frame_parts;               // [P, N, 8] scratch, or null if no frame gradient is wanted
  int64_t* face_lists;  // [F + 1 + N] with frame_parts: the ends of the faces' lists of Gaussians, and the lists;
                        // scratch on the CPU, given on CUDA

  // All out; null where not wanted. Shapes as of what they are the gradients of. If the batch, the cameras and the
  // Gaussians are not empty, the basis' gradients are written, frame_parts too and, where there is one row of
  // Gaussians, their gradients. All others come zeroed; so do camera_sums and emotion_sums, but for CUDA, which writes
  // them.
  T *grad_means, *grad_quats, *grad_scales, *grad_opacities, *grad_colors, *grad_viewmats, *grad_Ks, *grad_emotion;
  T *grad_basis_means, *grad_basis_rotations, *grad_basis_log_scales, *grad_basis_logit_opacities, *grad_basis_colors;
  T* grad_frames;

  template <class Reader>
  void visit(Reader& field) {
    ProjectForward<T>::visit(field);
    field("slices", slices), field("grad_splats", grad_splats), field("grad_splat_colors", grad_splat_colors);
    field("grad_splat_normals", grad_splat_normals);
    field("camera_sums", camera_sums), field("emotion_sums", emotion_sums), field("frame_parts", frame_parts);
    field("face_lists", face_lists);
    field("grad_means", grad_means), field("grad_quats", grad_quats), field("grad_scales", grad_scales);
    field("grad_opacities", grad_opacities), field("grad_colors", grad_colors);
    field("grad_viewmats", grad_viewmats), field("grad_Ks", grad_Ks), field("grad_emotion", grad_emotion);
    field("grad_basis_means", grad_basis_means), field("grad_basis_rotations", grad_basis_rotations);
    field("grad_basis_log_scales", grad_basis_log_scales);
    field("grad_basis_logit_opacities", grad_basis_logit_opacities);
    field("grad_basis_colors", grad_basis_colors), field("grad_frames", grad_frames);
  }
};

EMOGS_CPU_KERNEL(void, project_gaussians_forward, ProjectForward)
EMOGS_CPU_KERNEL(void, project_gaussians_backward, ProjectBackward)

template <class T>  // float
void project_gaussians_forward_cuda(const ProjectForward<T>& params);
template <class T>
void project_gaussians_backward_cuda(const ProjectBackward<T>& params);

}  // namespace emogs
