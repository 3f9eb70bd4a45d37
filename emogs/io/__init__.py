"""Clouds, pictures and videos to bytes and back. Knows nothing of models; each format needs only its own library."""

from .files import FormatError

__all__ = ["FormatError"]
