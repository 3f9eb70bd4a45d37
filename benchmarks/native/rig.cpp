#include "rig/rig.h"

#include "driver.h"

namespace emogs {

// A closed grid of 64 x 64 vertices, so that neighbours share corners as those of a mesh do, bent and trembling.
static const Case rig("rig_frames/4x8192/float32", [](Counter& count) {
  const int64_t side = 64, vertices = side * side, faces = 2 * vertices, batch = 4;
  Buffer<float> rest(3 * vertices), moved(3 * batch * vertices), frames(8 * batch * faces);
  Buffer<float> grad_frames(frames.size(), 0.5f), corner_grads(9 * faces), grad_vertices(moved.size());
  Buffer<float> face_gradients(9 * faces), gradients(9 * (batch + 1) * vertices), vertex_grads(9 * vertices);
  Buffer<int32_t> corners(3 * faces);
  Buffer<int64_t> lists(vertices + 1 + 3 * faces);
  Random random(1);
  for (int64_t v = 0; v < vertices; v++) {
    const float x = 0.05f * float(v % side), y = 0.05f * float(v / side);
    rest[3 * v] = x, rest[3 * v + 1] = y, rest[3 * v + 2] = 0.1f * x * y + 0.01f * random.normal();
  }
  for (int64_t i = 0; i < moved.size(); i++) moved[i] = rest[i % rest.size()] + 0.005f * random.normal();
  for (int64_t v = 0; v < vertices; v++) {
    const int64_t right = v / side * side + (v + 1) % side, below = (v + side) % vertices;
    const int64_t both = below / side * side + (v + 1) % side;
    const int64_t two[] = {v, right, below, right, both, below};
    for (int i = 0; i < 6; i++) corners[6 * v + i] = int32_t(two[i]);
  }
  RigFramesBackward<float> params{};
  params.batch = batch, params.count = vertices, params.faces = faces;
  params.vertices = moved, params.corners = corners, params.rest = rest, params.frames = frames;
  params.grad_frames = grad_frames, params.corner_grads = corner_grads, params.vertex_lists = lists;
  params.face_gradients = face_gradients, params.gradients = gradients, params.vertex_grads = vertex_grads;
  params.grad_vertices = grad_vertices;
  const RigFramesForward<float>& forward = params;
  count("forward", batch * faces, "faces", [&] { return counted::rig_frames_forward(forward), 0; });
  count("backward", batch * faces, "faces", [&] { return counted::rig_frames_backward(params), 0; });
});

}  // namespace emogs
