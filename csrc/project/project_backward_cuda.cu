// Backward of projection on CUDA (project.cuh says how the work is shared out, project_pull.cuh what becomes of the
// basis). A block owns its tile of Gaussians for all elements, so that what belongs to a Gaussian is added to by one
// thread in the order of elements, or by four and then in the order of warps. Sums over Gaussians (cameras, emotion) go
// to one row a warp or a block, frames to a row a Gaussian; further kernels add these in a fixed order. No atomics.
// Bytes from memory an image: 64 + 4 D read; a Gaussian: the stored and as much gradient, the basis and as much
// gradient, once for 16 elements.
#include "project/project_pull.cuh"

namespace emogs {
namespace {

constexpr int kStoredSums = 11;  // mean, quaternion, scale, opacity; the harmonics' follow

/// Scalars of a thread's sums for its stored Gaussian; odd, so that lanes meet no bank twice.
__host__ __device__ __forceinline__ int own_stride(int64_t harmonics) {
  return int(kStoredSums + 3 * harmonics) | 1;
}

/// Gradients of a Gaussian before the cameras, summed over them; zeros where no camera sees it.
struct ImageGrads {
  bool seen;
  Vec3<float> mean;
  Mat3<float> shape;
  float opacity;
  Vec3<float> normal;
  Quat<float> sh_rotation;  // of the face, through the direction of the harmonics
  Vec3<float> delta_color;
};

/// Back through the colour in one image: adds to the gradients of the harmonics and of the face, and returns that of
/// the vector from the camera, in the world.
template <bool kEmotion>
__device__ __forceinline__ Vec3<float> sh_color_backward(const ProjectBackward<float>& p, const Camera<float>& camera,
                                                         Vec3<float> mean, Quat<float> face, const float* coefficients,
                                                         const float (&delta)[3], Vec3<float> grad_color,
                                                         float* grad_harmonics, ImageGrads& grads) {
  const Vec3<float> view = view_vector(camera, mean, p.binding, face), direction = normalize(view);
  const float grad_colors[3] = {grad_color.x, grad_color.y, grad_color.z};
  Vec3<float> grad_view;
  with_degree(p.harmonics, [&](auto degree) {
    const ShBasis<float> basis = sh_basis(direction, degree);
    float grad[3], grad_delta[3];
#pragma unroll
    for (int channel = 0; channel < 3; channel++) {
      const float sum = harmonic_sum(coefficients, basis, degree, channel, kEmotion, delta);
      grad[channel] = sh_colour(sum) > 0.0f ? grad_colors[channel] : 0.0f;
      grad_delta[channel] = grad[channel] * basis.value[0];
    }
    ShBasis<float> grad_basis = {};
#pragma unroll
    for (int s = 0; s < harmonics_of(degree); s++)  // a gradient takes the register of its value
#pragma unroll
      for (int channel = 0; channel < 3; channel++) {
        if (s > 0) grad_basis.value[s] += grad[channel] * coefficients[3 * s + channel];
        grad_harmonics[3 * s + channel] += grad[channel] * basis.value[s];
      }
    grads.delta_color = grads.delta_color + Vec3<float>{grad_delta[0], grad_delta[1], grad_delta[2]};
    grad_view = normalize_backward(view, sh_basis_backward(direction, degree, grad_basis));
  });
  if (!p.binding) return grad_view;
  grads.sh_rotation = grads.sh_rotation + rotation_matrix_backward(face, outer(mean - camera.position, grad_view));
  return multiply(rotation_matrix(face), grad_view);
}

/// A warp's sum of a camera's gradients into its row of `camera_sums`.
__device__ __forceinline__ void write_camera_sums(const ProjectBackward<float>& p, const CameraGrad<float>& g,
                                                  int64_t slice, int64_t image) {
  float values[kWarp] = {g.linear.row0.x,
                         g.linear.row0.y,
                         g.linear.row0.z,
                         g.linear.row1.x,
                         g.linear.row1.y,
                         g.linear.row1.z,
                         g.linear.row2.x,
                         g.linear.row2.y,
                         g.linear.row2.z,
                         g.translation.x,
                         g.translation.y,
                         g.translation.z,
                         g.position.x,
                         g.position.y,
                         g.position.z,
                         g.fx,
                         g.fy,
                         g.cx,
                         g.cy};
  const float sum = sum_over_lanes(values);
  const int lane = threadIdx.x % kWarp;
  if (lane < kCameraSums) p.camera_sums[(slice * p.batch * p.cameras + image) * kCameraSums + lane] = sum;
}

/// A lane's place: which Gaussian, and where its inputs and sums are in shared memory.
struct Lane {
  int i;                      // Gaussian within the tile; lanes beyond the end repeat the last
  bool inside;                // not beyond the end
  int64_t index;              // of all Gaussians
  const float* coefficients;  // harmonics
  float* own;                 // sums for the stored Gaussian
};

/// Back through all images of an element. `camera` is the warp's, in shared memory.
template <bool kEmotion>
__device__ __forceinline__ ImageGrads images_backward(const ProjectBackward<float>& p,
                                                      const SplatSettings<float>& settings, const Lane& lane,
                                                      const Gaussian<float>& world, Quat<float> face,
                                                      const float (&delta_color)[3], int64_t camera_row,
                                                      int64_t element, int64_t slice, Camera<float>& camera) {
  ImageGrads grads = {};
  const Mat3<float> shape = shape_matrix(world.quat, world.scale);
  const Vec3<float> normal = p.grad_splat_normals ? disc_normal(world.quat, world.scale) : Vec3<float>();
  for (int64_t c = 0; c < p.cameras; c++) {
    const int64_t image = element * p.cameras + c, at = image * p.count + lane.index;
    __syncwarp();
    if (threadIdx.x % kWarp == 0) camera = camera_at(p, camera_row, c);
    __syncwarp();
    const bool visible = lane.inside && p.splats[kSplatSize * at + 7] != 0.0f;
    CameraGrad<float> grad_camera = {};
    if (visible) {
      // The colour first: what is read and made below would wait in registers.
      Vec3<float> grad_view = {0, 0, 0};
      if (p.harmonics)
        grad_view = sh_color_backward<kEmotion>(p, camera, world.mean, face, lane.coefficients, delta_color,
                                                load_vec3(p.grad_splat_colors + 3 * at), lane.own + kStoredSums, grads);
      float low[4], high[4], grad_low[4], grad_high[4];
      load_values(p.splats + kSplatSize * at, low), load_values(p.splats + kSplatSize * at + 4, high);
      load_values(p.grad_splats + kSplatSize * at, grad_low);
      load_values(p.grad_splats + kSplatSize * at + 4, grad_high);
      const Splat<float> splat = {low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]};
      const Splat<float> grad = {grad_low[0],  grad_low[1],  grad_low[2],  grad_low[3],
                                 grad_high[0], grad_high[1], grad_high[2], grad_high[3]};
      SplatGrad<float> back = make_splat_backward(camera, world.mean, shape, splat, grad, settings);
      if (p.harmonics) back.mean = back.mean + grad_view, back.camera.position = -grad_view;
      if (p.grad_splat_normals)
        grads.normal = grads.normal + facing(camera, world.mean, normal, load_vec3(p.grad_splat_normals + 3 * at));
      grads.seen = true;
      grads.mean = grads.mean + back.mean;
      grads.shape = grads.shape + back.shape;
      grads.opacity += back.opacity;
      grad_camera = back.camera;
    }
    if (p.camera_sums) write_camera_sums(p, grad_camera, slice, image);
  }
  return grads;
}

/// Gradients of a stored Gaussian, its summed delta and its frame.
struct StoredGrads {
  Gaussian<float> stored;
  Delta<float> delta;
  Frame<float> frame;
};

/// Back through shape, rig and modulation; zeros where no camera sees the Gaussian.
template <bool kEmotion>
__device__ __forceinline__ StoredGrads pose_backward(const ProjectBackward<float>& p, const Gaussian<float>& stored,
                                                     const Delta<float>& delta, const Frame<float>& frame,
                                                     const ImageGrads& grads) {
  StoredGrads out = {};
  if (!grads.seen) return out;
  const Posed g = pose(stored, kEmotion, delta, p.binding, frame);
  const ShapeGrad<float> shape = shape_matrix_backward(g.world.quat, g.world.scale, grads.shape);
  out.stored = {grads.mean, shape.quat, shape.scale, grads.opacity};
  if (p.grad_splat_normals)
    out.stored.quat = out.stored.quat + disc_normal_backward(g.world.quat, g.world.scale, grads.normal);
  if (p.binding) {
    const ApplyFrameGrad<float> back = apply_frame_backward(frame, g.modulated, out.stored);
    out.stored = back.gaussian, out.frame = back.frame;
    out.frame.rotation = out.frame.rotation + grads.sh_rotation;
  }
  if (kEmotion) {
    const ModulateGrad<float> back = modulate_backward(g.stored, delta, out.stored);
    out.stored = back.gaussian, out.delta = back.delta;
  }
  return out;
}

__device__ __forceinline__ void store_vec3(Vec3<float> value, float* to) {
  to[0] = value.x, to[1] = value.y, to[2] = value.z;
}

template <int kTile>
__device__ __forceinline__ void store_delta(const Delta<float>& delta, Vec3<float> color, float* deltas, int i) {
  store_vec3(delta.mean, deltas + 3 * i), store_vec3(delta.rotation, deltas + 3 * kTile + 3 * i);
  store_vec3(delta.log_scale, deltas + 6 * kTile + 3 * i);
  deltas[9 * kTile + i] = delta.logit_opacity;
  store_vec3(color, deltas + kColorColumn * kTile + 3 * i);
}

__device__ __forceinline__ void add_stored(const Gaussian<float>& grad, float* own) {
  const float values[kStoredSums] = {grad.mean.x, grad.mean.y,  grad.mean.z,  grad.quat.w,  grad.quat.x, grad.quat.y,
                                     grad.quat.z, grad.scale.x, grad.scale.y, grad.scale.z, grad.opacity};
#pragma unroll
  for (int j = 0; j < kStoredSums; j++) own[j] += values[j];
}

/// Adds scalars [first, first + width) of the sums of `size` Gaussians, from each of `copies` rows kWarp apart, to the
/// gradients `to` (or, if they are `fresh`, writes them), by `threads` threads.
__device__ __forceinline__ void add_field(const float* sums, int stride, int first, int width, int size, int copies,
                                          int thread, int threads, bool fresh, float* to) {
  if (!to) return;
  for (int j = thread; j < size * width; j += threads) {
    const float* own = sums + j / width * stride + first + j % width;
    float sum = fresh ? 0.0f : to[j];
    for (int copy = 0; copy < copies; copy++) sum += own[copy * kWarp * stride];
    to[j] = sum;
  }
}

/// Adds the sums of `size` Gaussians from `begin` on to the gradients of what is stored in that row.
__device__ __forceinline__ void flush(const ProjectBackward<float>& p, const float* sums, int64_t row, int64_t begin,
                                      int size, int copies, int thread, int threads) {
  const int stride = own_stride(p.harmonics);
  const int64_t at = row * p.count + begin;
  const auto add = [&](int first, int width, float* grad) {
    add_field(sums, stride, first, width, size, copies, thread, threads, p.gaussian_rows == 1,
              grad ? grad + at * width : nullptr);
  };
  add(0, 3, p.grad_means), add(3, 4, p.grad_quats), add(7, 3, p.grad_scales), add(10, 1, p.grad_opacities);
  if (p.harmonics) add(kStoredSums, int(3 * p.harmonics), p.grad_colors);
}

inline bool loads_four_gradients(const ProjectBackward<float>& p) {
  return is_aligned(p.grad_splat_colors, 16) && is_aligned(p.grad_colors, 16) && is_aligned(p.grad_basis_means, 16) &&
         is_aligned(p.grad_basis_rotations, 16) && is_aligned(p.grad_basis_log_scales, 16) &&
         is_aligned(p.grad_basis_logit_opacities, 16) && is_aligned(p.grad_basis_colors, 16);
}

/// Shared memory of a block whose size is fixed.
template <int kTile>
struct BackwardShared {
  Chunk<kTile> chunk;
  Camera<float> cameras[kWarps];
};

/// The elements of a chunk that are the warp's. Deltas in shared memory become their gradients. `row` is that of the
/// Gaussians the sums are for, -1 before the first.
template <int kTile, bool kEmotion>
__device__ __forceinline__ void elements_backward(const ProjectBackward<float>& p, const SplatSettings<float>& settings,
                                                  const Work& work, BackwardShared<kTile>& shared, float* deltas,
                                                  float* harmonics, float* sums, int32_t& row) {
  const int warp = threadIdx.x / kWarp, lane_number = threadIdx.x % kWarp, subtile = warp % kSubtiles<kTile>;
  const int offset = kWarp * subtile, count = minimum(work.size - offset, kWarp);
  if (count <= 0) return;
  const int stride = own_stride(p.harmonics), i = offset + minimum(lane_number, count - 1);
  float* warp_sums = sums + warp * kWarp * stride;
  const Lane lane = {i, lane_number < count, work.begin + i, harmonics + i * harmonics_stride(p.harmonics),
                     warp_sums + lane_number * stride};
  const int32_t face = p.binding ? p.binding[lane.index] : 0;
  for (int e = warp / kSubtiles<kTile>; e < work.elements; e += kWarpsPerSubtile<kTile>) {
    const int64_t element = work.first_element + e;
    if (kTile == kThreads && shared.chunk.gaussian[e] != row) {
      __syncwarp();
      if (row >= 0) flush(p, warp_sums, row, work.begin + offset, count, 1, lane_number, kWarp);
      row = shared.chunk.gaussian[e];
      __syncwarp();
      for (int j = 0; j < stride; j++) lane.own[j] = 0;
      if (p.harmonics)
        stage_harmonics(p, row * p.count + work.begin + offset, count, lane_number, kWarp,
                        harmonics + offset * harmonics_stride(p.harmonics));
      __syncwarp();
    }
    const int64_t stored_at = shared.chunk.gaussian[e] * p.count + lane.index;
    float* own_deltas = deltas + e * kColumns * kTile;
    const auto read_delta = [&] { return kEmotion ? load_delta<kTile>(own_deltas, i) : Delta<float>(); };
    const auto read_frame = [&] { return p.binding ? load_frame(p, shared.chunk.rig[e], face) : Frame<float>(); };
    ImageGrads grads;
    {
      float delta_color[3] = {};
      if (kEmotion && p.harmonics) load_values(own_deltas + kColorColumn * kTile + 3 * i, delta_color);
      const Frame<float> frame = read_frame();
      const Gaussian<float> world = pose(load_gaussian(p, stored_at), kEmotion, read_delta(), p.binding, frame).world;
      grads = images_backward<kEmotion>(p, settings, lane, world, frame.rotation, delta_color, shared.chunk.camera[e],
                                        element, work.begin / kWarp + subtile, shared.cameras[warp]);
    }
    __syncwarp();           // inputs are read again, to leave their registers to the images
    StoredGrads back = {};  // lanes beyond the end must not read what the last one is about to replace
    if (lane.inside) back = pose_backward<kEmotion>(p, load_gaussian(p, stored_at), read_delta(), read_frame(), grads);
    if (lane.inside) {
      add_stored(back.stored, lane.own);
      if (kEmotion) store_delta<kTile>(back.delta, grads.delta_color, own_deltas, i);
    }
    if (p.frame_parts) {
      const Frame<float>& f = back.frame;
      store_eights({f.rotation.w, f.rotation.x, f.rotation.y, f.rotation.z},
                   {f.translation.x, f.translation.y, f.translation.z, f.scale},
                   p.frame_parts + 8 * (element * p.count + work.begin + offset), count);
    }
  }
}

template <int kTile, bool kEmotion>
__global__ void __launch_bounds__(kThreads, 2)
    project_gaussians_backward_kernel(ProjectBackward<float> p, SplatSettings<float> settings, int chunk_size,
                                      bool fours) {
  __shared__ BackwardShared<kTile> shared;
  EMOGS_DYNAMIC_SHARED(float, dynamic);
  float* deltas = dynamic;  // [chunk_size, kColumns * kTile]
  float* harmonics = dynamic + (kEmotion || !p.harmonics ? kColumns * kTile * chunk_size : 0);  // [kTile, stride]
  float* sums = harmonics + (p.harmonics ? kTile * harmonics_stride(p.harmonics) : 0);  // [kThreads, own_stride]
  const int stride = own_stride(p.harmonics);
  int32_t row = -1;
  for (int64_t chunk = 0; chunk * chunk_size < p.batch; chunk++) {
    const Work work = work_of(p, blockIdx.x, kTile, chunk, chunk_size);
    __syncthreads();
    read_rows(p, work, shared.chunk);
    if (kTile != kThreads && chunk == 0) {  // short tiles are for Gaussians that all elements share
      for (int j = 0; j < stride; j++) sums[threadIdx.x * stride + j] = 0;
      if (p.harmonics) stage_harmonics(p, work.begin, work.size, threadIdx.x, kThreads, harmonics);
    }
    __syncthreads();
    for (int64_t first = 0; kEmotion && first < p.components; first += kComponentTile) {
      read_weights(p, work, first, shared.chunk);
      const int columns = p.harmonics ? kColumns : kPoseColumns;
      fours ? add_deltas<kTile, 4>(p, work, shared.chunk, first, columns, kColumns * kTile, deltas)
            : add_deltas<kTile, 1>(p, work, shared.chunk, first, columns, kColumns * kTile, deltas);
      __syncthreads();
    }
    elements_backward<kTile, kEmotion>(p, settings, work, shared, deltas, harmonics, sums, row);
    if (kEmotion) {
      const PullRange range = {0, p.harmonics ? kColumns : kPoseColumns, 0, true};
      fours ? pull<kTile, 4>(p, work, shared.chunk, range, deltas)
            : pull<kTile, 1>(p, work, shared.chunk, range, deltas);
    }
    if (!p.harmonics && (p.grad_colors || (kEmotion && p.basis_colors)))
      fours ? pull_plain_colors<kTile, 4>(p, work, shared.chunk, deltas)
            : pull_plain_colors<kTile, 1>(p, work, shared.chunk, deltas);
  }
  __syncthreads();
  const Work work = work_of(p, blockIdx.x, kTile, 0, chunk_size);
  if (kTile != kThreads) {
    flush(p, sums, 0, work.begin, work.size, kWarps, threadIdx.x, kThreads);
  } else {
    const int offset = threadIdx.x / kWarp * kWarp, count = minimum(work.size - offset, kWarp);
    if (count > 0) flush(p, sums + offset * stride, row, work.begin + offset, count, 1, threadIdx.x % kWarp, kWarp);
  }
}

template <int kTile, bool kEmotion>
void launch_backward(const ProjectBackward<float>& p) {
  // Degree 4 has room for no more in the 99 KB that a block may have on every architecture.
  const int chunk_size = kTile == kThreads && p.harmonics == harmonics_of(4) ? 2 : kChunk<kTile>;
  const size_t deltas = kEmotion || !p.harmonics ? kColumns * kTile * chunk_size : 0;
  const size_t harmonics = p.harmonics ? kTile * size_t(3 * p.harmonics | 1) : 0;
  const char* name = "project_gaussians_backward_kernel";
  launch_kernel(name, project_gaussians_backward_kernel<kTile, kEmotion>,
                grid_size((p.count + kTile - 1) / kTile, name), kThreads,
                sizeof(float) * (deltas + harmonics + kThreads * own_stride(p.harmonics)), p, p, splat_settings(p),
                chunk_size, loads_four(p) && loads_four_gradients(p));
  project_sums_cuda(p, (p.count + kTile - 1) / kTile);
}

}  // namespace

template <class T>
void project_gaussians_backward_cuda(const ProjectBackward<T>& p) {
  const DeviceGuard guard(p);
  if (p.batch * p.cameras * p.count == 0) return;
  require_aligned(p.quats, "quats"), require_aligned(p.frames, "frames"), require_aligned(p.splats, "splats");
  require_aligned(p.grad_splats, "grad_splats"), require_aligned(p.frame_parts, "frame_parts");
  if (!p.emotion)
    launch_backward<kThreads, false>(p);
  else if (p.batch < kManyElements || p.gaussian_rows > 1)
    launch_backward<kThreads, true>(p);
  else
    launch_backward<kWarp, true>(p);
}

template void project_gaussians_backward_cuda(const ProjectBackward<float>&);

}  // namespace emogs
