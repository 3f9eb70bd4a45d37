"""One head through three camera models, its normals and its depth: no photo, no data, the built-in head's own paint."""

import imageio.v3 as imageio
import torch

import emogs
from emogs.head import builtin_head, texel_map
from emogs.head.mesh import vertex_normals
from emogs.model.surface import texel_surface

head = builtin_head()
texels = texel_map(head, 256)
surface = texel_surface(head, texels, head.vertices)  # a disc on every texel, bound to its triangle
lamp = torch.nn.functional.normalize(torch.tensor([-0.4, 0.6, 0.7]), dim=0)
normals = texels.interpolate(head.faces, vertex_normals(head.vertices, head.faces))
colors = texels.sample(head.albedo) * (0.75 + 0.4 * normals @ lamp)[:, None]
gaussians = emogs.Gaussians(surface.means, surface.quats, surface.scales, torch.full((len(colors),), 0.99), colors)
smile = torch.zeros(1, 52)
for side in ("Left", "Right"):
    smile[0, head.channel(f"mouthSmile{side}")] = 0.8
frames = emogs.ops.rig_frames(head.deform(expression=smile), head.faces, head.vertices)[0]
rig = emogs.Rig(surface.binding, frames)

size = 256
centre = head.vertices[head.landmarks].mean(0) + torch.tensor([0.0, 0.0, -0.03])
near, far = (emogs.look_at(centre + scale * torch.tensor([0.35, 0.1, 1.0]), centre)[None] for scale in (0.17, 1.0))
settings = emogs.RasterSettings(normals=True, depth="median")


def show(view: torch.Tensor, K: torch.Tensor, model: str) -> emogs.Rendering:
    camera = emogs.Cameras(view, K[None], size, size, model)
    return emogs.rasterize(gaussians, camera, rig=rig, background=torch.ones(3), settings=settings)


pinhole = show(near, emogs.pinhole(size, size, 92), "pinhole")
fisheye = show(near, emogs.fisheye(size, size, 110), "fisheye")
ortho = show(far, emogs.orthographic(size, size, 0.34), "ortho")  # no perspective at any distance

depth = ortho.depths[0, ..., 0]
head_only = depth > 0
shade = 1 - (depth - depth[head_only].min()) / (depth[head_only].max() - depth[head_only].min())
pictures = [pinhole.colors[0], fisheye.colors[0], ortho.colors[0]]
pictures.append(torch.where(ortho.alphas[0] > 0.5, 0.5 + 0.5 * ortho.normals[0], 1.0))
pictures.append(torch.where(head_only, shade, 1.0)[..., None].expand(-1, -1, 3))
imageio.imwrite("camera_models.png", (torch.cat(pictures, 1).clamp(0, 1) * 255).byte().numpy())
print("wrote camera_models.png: pinhole, fisheye, orthographic; normals and median depth of the last")
