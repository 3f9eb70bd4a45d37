// Forward projection on CUDA (project.cuh says how the work is shared out). Bytes from memory a Gaussian: 44 stored, 12
// S of harmonics or 4 D of colours and the whole basis, once (chunks of a tile are neighbours in the grid: the second
// finds the basis in the L2 cache); 32 + 4 D written an image. Few elements are bound by these bytes, many by the about
// 900 instructions of an image. 128 registers and 20 to 60 KB of shared memory: four blocks a multiprocessor.
#include "project/project.cuh"

namespace emogs {
namespace {

template <int kTile>
constexpr int kCameraTile = kWarp / kChunk<kTile>;  // cameras whose images a chunk makes at a time

/// Shared memory of a block.
template <int kTile>
struct ForwardShared {
  Chunk<kTile> chunk;
  Camera<float> cameras[kCameraTile<kTile>][kChunk<kTile>];
  unsigned colors_non_finite[kChunk<kTile>][kSubtiles<kTile>];  // a bit a Gaussian, of plain colours
  float records[kWarps][3 * kWarp];                             // on their way to memory
};

/// Plain colours of a chunk, stored + sum_k e_k delta_k, into all cameras' images, as if no Gaussian were culled.
/// `first` is as in add_deltas; later components add to what is in the first camera's image.
template <int kTile, int kVector>
__device__ __forceinline__ void write_plain_colors(const ProjectForward<float>& p, const Work& work, int64_t first,
                                                   ForwardShared<kTile>& shared) {
  constexpr int kGroups = kChunk<kTile> / kTogether;
  const int values = work.size * int(p.channels);
  const int64_t begin = work.begin * p.channels, image = p.count * p.channels;
  for (int item = threadIdx.x; item < (values + kVector - 1) / kVector * kGroups; item += kThreads) {
    const int group = item % kGroups, flat = item / kGroups * kVector;
    const int together = minimum(kTogether, work.elements - group * kTogether);
    if (together <= 0) continue;
    float* out = p.splat_colors + (work.first_element + group * kTogether) * p.cameras * image + begin + flat;
    float sum[kTogether][kVector] = {};
#pragma unroll
    for (int e = 0; e < kTogether; e++) {
      if (e >= together) break;
      const float* stored = p.colors + shared.chunk.gaussian[group * kTogether + e] * image + begin + flat;
      load_values(first > 0 ? out + e * p.cameras * image : stored, sum[e]);
    }
    if (p.emotion) add_components(shared.chunk, group, p.basis_colors, first * image + begin + flat, image, sum);
#pragma unroll
    for (int e = 0; e < kTogether; e++) {
      if (e >= together) break;
      for (int64_t c = 0; c < p.cameras; c++) store_values(sum[e], out + (e * p.cameras + c) * image);
#pragma unroll
      for (int v = 0; v < kVector; v++)
        if (!is_finite(sum[e][v])) {
          const int i = (flat + v) / int(p.channels);
          atomicOr(&shared.colors_non_finite[group * kTogether + e][i / kWarp], 1u << i % kWarp);
        }
    }
  }
}

/// A warp's vectors, one a lane, to `count` consecutive rows of three.
__device__ __forceinline__ void store_vec3_rows(Vec3<float> value, float* to, int count, float* staging) {
  const int lane = threadIdx.x % kWarp;
  staging[3 * lane] = value.x, staging[3 * lane + 1] = value.y, staging[3 * lane + 2] = value.z;
  __syncwarp();
#pragma unroll
  for (int j = lane; j < 3 * kWarp; j += kWarp)
    if (j < 3 * count) to[j] = staging[j];
  __syncwarp();
}

/// Harmonics in one direction; not finite where they are not.
__device__ __forceinline__ Vec3<float> sh_color(const float* coefficients, int64_t harmonics, Vec3<float> view,
                                                bool modulated, const float (&delta)[3]) {
  float color[3];
  with_degree(harmonics, [&](auto degree) {
    const ShBasis<float> basis = sh_basis(normalize(view), degree);
#pragma unroll
    for (int channel = 0; channel < 3; channel++) {
      const float sum = harmonic_sum(coefficients, basis, degree, channel, modulated, delta);
      color[channel] = is_finite(sum) ? sh_colour(sum) : sum;
    }
  });
  return {color[0], color[1], color[2]};
}

/// What a warp writes of 32 Gaussians in one image.
struct Seen {
  Splat<float> splat;
  Vec3<float> color, normal;  // with harmonics; if asked for
  bool visible, finite;
};

__device__ __forceinline__ void write_image(const ProjectForward<float>& p, const Seen& seen, int64_t image,
                                            int64_t begin, int count, float* staging) {
  const int lane = threadIdx.x % kWarp;
  const Vec3<float> none = {0, 0, 0};
  const int64_t at = image * p.count + begin;
  const Splat<float>& s = seen.splat;
  store_eights({s.x, s.y, s.a, s.b}, {s.c, s.opacity, s.depth, s.reach_y}, p.splats + kSplatSize * at, count);
  if (p.harmonics)
    store_vec3_rows(select_vec3(seen.visible, seen.color, none), p.splat_colors + 3 * at, count, staging);
  if (p.splat_normals)
    store_vec3_rows(select_vec3(seen.visible, seen.normal, none), p.splat_normals + 3 * at, count, staging);
  const unsigned visible = __ballot_sync(0xffffffffu, seen.visible);
  const int non_finite = __popc(__ballot_sync(0xffffffffu, !seen.finite && lane < count));
  const int outside = count - non_finite - __popc(count < kWarp ? visible & ((1u << count) - 1) : visible);
  unsigned long long* culled = reinterpret_cast<unsigned long long*>(p.culled + 2 * image);
  if (lane == 0 && outside) atomicAdd(culled, static_cast<unsigned long long>(outside));
  if (lane == 0 && non_finite) atomicAdd(culled + 1, static_cast<unsigned long long>(non_finite));
  if (!p.harmonics && outside + non_finite > 0)
    for (int j = lane; j < count * int(p.channels); j += kWarp)
      if (!(visible >> j / int(p.channels) & 1)) p.splat_colors[at * p.channels + j] = 0;
}

/// The images of a warp's 32 Gaussians in the elements of a chunk that are the warp's, for cameras [first, end).
template <int kTile, bool kEmotion>
__device__ __forceinline__ void project_images(const ProjectForward<float>& p, const SplatSettings<float>& settings,
                                               const Work& work, int64_t first_camera, ForwardShared<kTile>& shared,
                                               const float* deltas, int columns, float* harmonics) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, subtile = warp % kSubtiles<kTile>;
  const int offset = kWarp * subtile, count = minimum(work.size - offset, kWarp);
  if (count <= 0) return;
  const int i = offset + minimum(lane, count - 1);  // lanes beyond the end repeat the last Gaussian
  const int32_t face = p.binding ? p.binding[work.begin + i] : 0;
  float* coefficients = harmonics + offset * harmonics_stride(p.harmonics);
  Gaussian<float> stored;
  int32_t row = -1;
  for (int e = warp / kSubtiles<kTile>; e < work.elements; e += kWarpsPerSubtile<kTile>) {
    if (shared.chunk.gaussian[e] != row) {
      row = shared.chunk.gaussian[e];
      stored = load_gaussian(p, row * p.count + work.begin + i);
      if (p.harmonics && kTile == kWarps * kWarp) {
        __syncwarp();
        stage_harmonics(p, row * p.count + work.begin + offset, count, lane, kWarp, coefficients);
        __syncwarp();
      }
    }
    const float* own_deltas = deltas + e * columns * kTile;
    const Delta<float> delta = kEmotion ? load_delta<kTile>(own_deltas, i) : Delta<float>();
    const Frame<float> frame = p.binding ? load_frame(p, shared.chunk.rig[e], face) : Frame<float>();
    const Gaussian<float> world = pose(stored, kEmotion, delta, p.binding, frame).world;
    const Mat3<float> shape = shape_matrix(world.quat, world.scale);
    const bool world_finite = is_finite(world);
    const Vec3<float> normal = p.splat_normals ? disc_normal(world.quat, world.scale) : Vec3<float>();
    const unsigned plain_non_finite = p.harmonics ? 0 : shared.colors_non_finite[e][subtile];
    for (int64_t c = first_camera; c < minimum(first_camera + kCameraTile<kTile>, p.cameras); c++) {
      const Camera<float>& camera = shared.cameras[c - first_camera][e];
      const SplatResult<float> s = make_splat(camera, world.mean, shape, world.opacity, settings);
      Seen seen = {s.splat, {}, {}, s.visible, world_finite && !s.non_finite};
      bool color_finite = !(plain_non_finite >> lane & 1);
      if (p.harmonics) {
        const Vec3<float> view = view_vector(camera, world.mean, p.binding, frame.rotation);
        float change[3] = {};
        if (kEmotion) load_values(own_deltas + kColorColumn * kTile + 3 * i, change);
        seen.color =
            sh_color(coefficients + (i - offset) * harmonics_stride(p.harmonics), p.harmonics, view, kEmotion, change);
        color_finite = is_finite(seen.color);
      }
      seen.finite = seen.finite && (!s.visible || color_finite);
      seen.visible = s.visible && seen.finite;
      if (!seen.visible) seen.splat = {};
      if (p.splat_normals) seen.normal = facing(camera, world.mean, normal, normal);
      const int64_t image = (work.first_element + e) * p.cameras + c;
      write_image(p, seen, image, work.begin + offset, count, shared.records[warp]);
    }
  }
}

template <int kTile, bool kEmotion>
__global__ void __launch_bounds__(kThreads, 4)
    project_gaussians_forward_kernel(ProjectForward<float> p, SplatSettings<float> settings, bool fours) {
  __shared__ ForwardShared<kTile> shared;
  EMOGS_DYNAMIC_SHARED(float, dynamic);
  const int columns = !kEmotion ? 0 : p.harmonics ? kColumns : kPoseColumns;
  float* deltas = dynamic;                        // [kChunk, columns * kTile]
  float* harmonics = dynamic + columns * kPairs;  // [kTile, stride]
  const int64_t chunks = (p.batch + kChunk<kTile> - 1) / kChunk<kTile>;
  const Work work = work_of(p, blockIdx.x / chunks, kTile, blockIdx.x % chunks, kChunk<kTile>);

  read_rows(p, work, shared.chunk);
  if (threadIdx.x < kPairs / kWarp) (&shared.colors_non_finite[0][0])[threadIdx.x] = 0;
  __syncthreads();
  // Short tiles are for Gaussians that all elements share.
  if (p.harmonics && kTile != kWarps * kWarp)
    stage_harmonics(p, work.begin, work.size, threadIdx.x, kThreads, harmonics);
  for (int64_t first = 0; first == 0 || first < p.components; first += kComponentTile) {
    if (kEmotion) {
      read_weights(p, work, first, shared.chunk);
      fours ? add_deltas<kTile, 4>(p, work, shared.chunk, first, columns, columns * kTile, deltas)
            : add_deltas<kTile, 1>(p, work, shared.chunk, first, columns, columns * kTile, deltas);
    }
    if (!p.harmonics)
      fours ? write_plain_colors<kTile, 4>(p, work, first, shared)
            : write_plain_colors<kTile, 1>(p, work, first, shared);
    __syncthreads();
  }
  for (int64_t first = 0; first < p.cameras; first += kCameraTile<kTile>) {
    const int e = threadIdx.x % kChunk<kTile>, c = threadIdx.x / kChunk<kTile>;
    if (c < kCameraTile<kTile> && first + c < p.cameras && e < work.elements)
      shared.cameras[c][e] = camera_at(p, shared.chunk.camera[e], first + c);
    __syncthreads();
    project_images<kTile, kEmotion>(p, settings, work, first, shared, deltas, columns, harmonics);
    __syncthreads();
  }
}

template <int kTile, bool kEmotion>
void launch_forward(const ProjectForward<float>& p) {
  const int64_t tiles = (p.count + kTile - 1) / kTile, chunks = (p.batch + kChunk<kTile> - 1) / kChunk<kTile>;
  const int columns = !kEmotion ? 0 : p.harmonics ? kColumns : kPoseColumns;
  const size_t harmonics = p.harmonics ? kTile * size_t(3 * p.harmonics | 1) : 0;
  const char* name = "project_gaussians_forward_kernel";
  launch_kernel(name, project_gaussians_forward_kernel<kTile, kEmotion>, grid_size(tiles * chunks, name), kThreads,
                sizeof(float) * (columns * kPairs + harmonics), p, p, splat_settings(p), loads_four(p));
}

}  // namespace

template <class T>
void project_gaussians_forward_cuda(const ProjectForward<T>& p) {
  const DeviceGuard guard(p);
  if (p.batch * p.cameras * p.count == 0) return;
  require_aligned(p.quats, "quats"), require_aligned(p.frames, "frames");
  require_aligned(p.splats, "splats"), require_aligned(p.splat_colors, "splat_colors");
  if (!p.emotion)
    launch_forward<kWarps * kWarp, false>(p);
  else if (p.batch < kManyElements || p.gaussian_rows > 1)
    launch_forward<kWarps * kWarp, true>(p);
  else
    launch_forward<kWarp, true>(p);
}

template void project_gaussians_forward_cuda(const ProjectForward<float>&);

}  // namespace emogs
