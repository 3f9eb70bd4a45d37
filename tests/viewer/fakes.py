"""A stand-in for an avatar: flat pictures that tell which camera, emotion and articulation made them."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from emogs.gaussians import Gaussians


@dataclass(frozen=True)
class FakeCameras:
    Ks: torch.Tensor
    viewmats: torch.Tensor
    width: int
    height: int


class FakeAvatar:
    """Red is the camera's yaw, green the sum of the emotion, blue that of the articulation; the left half is empty."""

    source = 0.01 * torch.ones(52)
    template = SimpleNamespace(landmarks=torch.zeros(68, dtype=torch.int64))
    gaussians = SimpleNamespace(means=torch.zeros(4, 3))

    @property
    def camera(self):
        return self.orbit(size=100)

    def orbit(self, yaw=0.0, pitch=0.0, size=512):
        """Cameras one metre before the origin; the yaw hides in the last row, where only the fake looks."""
        yaw = torch.as_tensor(yaw, dtype=torch.float32).reshape(-1)
        viewmats = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).repeat(len(yaw), 1, 1)
        viewmats[:, 2, 3], viewmats[:, 3, 0] = 1.0, yaw
        K = torch.tensor([[2.0 * size, 0, size / 2], [0, 2.0 * size, size / 2], [0, 0, 1]])
        return FakeCameras(K.repeat(len(yaw), 1, 1), viewmats, size, size)

    def vertices(self):
        """The chin, 10 cm below the origin."""
        return torch.tensor([[[0.0, -0.1, 0.0]]])

    def render(self, cameras, emotion=None, articulation=None):
        code = torch.zeros(1, 7) if emotion is None else emotion.reshape(-1, 7)
        rest = torch.zeros(52) if articulation is None else articulation
        feel, turn = torch.meshgrid(code.sum(1), cameras.viewmats[:, 3, 0] / 60 + 0.5, indexing="ij")
        colour = torch.stack([turn, feel, rest.sum().expand_as(turn)], -1)
        alphas = (torch.arange(cameras.width) >= cameras.width // 2).float()[:, None]
        shape = (*turn.shape, cameras.height, cameras.width)
        return SimpleNamespace(
            colors=colour[:, :, None, None] * alphas.expand(*shape, 1), alphas=alphas.expand(*shape, 1)
        )

    def posed(self, emotion=None, articulation=None):
        """Four Gaussians that rise by 1 cm for every unit of emotion and by 1 mm for every unit of articulation."""
        code = torch.zeros(7) if emotion is None else emotion
        rest = torch.zeros(52) if articulation is None else articulation
        means = torch.zeros(4, 3) + torch.stack(
            [torch.zeros(()), 0.01 * code.sum() + 0.001 * rest.sum(), torch.zeros(())]
        )
        return Gaussians(
            means=means,
            quats=torch.tensor([[1.0, 0, 0, 0], [2.0, 0, 0, 2.0], [1.0, 0, 0, 0], [1.0, 0, 0, 0]]),
            scales=torch.tensor([[0.001, 0.002, 0.003]]).repeat(4, 1),
            opacities=torch.full((4,), 0.5),
            colors=torch.tensor([[0.0, 0.5, 2.0]]).repeat(4, 1),
        )

    def save(self, path):
        path.write_bytes(b"avatar")


def fake_photo_avatar():
    """Its photo is dark, and ends at three quarters of the crop's height."""
    valid = np.arange(80)[:, None].repeat(80, 1) < 60
    return SimpleNamespace(avatar=FakeAvatar(), crop=torch.full((80, 80, 3), 0.25), fit=SimpleNamespace(valid=valid))
