"""One photo to an avatar that feels: make it, ask for an emotion, say something else with the mouth, save it."""

import imageio.v3 as imageio
import torch
from skimage.data import astronaut

from emogs.model import Avatar, avatar_from_photo

avatar = avatar_from_photo(astronaut()).avatar
cameras = avatar.orbit(yaw=torch.tensor([-30.0, 0.0, 30.0]), size=256)

talking = torch.zeros(52)
talking[avatar.template.channel("jawOpen")] = 0.3  # articulation is a signal of its own ...
picture = avatar.render(cameras, emotion="happy=0.7,surprise=0.2", articulation=talking)  # ... and so is emotion

imageio.imwrite("avatar.png", (torch.cat(list(picture.colors[0]), 1).clamp(0, 1) * 255).byte().numpy())
avatar.save("avatar.safetensors")
print("wrote avatar.png and avatar.safetensors with", Avatar.load("avatar.safetensors").gaussians.count, "Gaussians")
