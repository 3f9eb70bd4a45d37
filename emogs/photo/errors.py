"""The one exception that a photo can cause."""


class PhotoError(ValueError):
    """A photo, or what was asked about it, cannot be used; the message names what is wrong and what would help."""
