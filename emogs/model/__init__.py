"""The encoder, the avatar that it bakes, and the way from a photo to both."""

from .avatar import Avatar
from .encoder import AvatarEncoder, EncoderConfig
from .from_photo import PhotoAvatar, avatar_from_photo

__all__ = ["Avatar", "AvatarEncoder", "EncoderConfig", "PhotoAvatar", "avatar_from_photo"]
