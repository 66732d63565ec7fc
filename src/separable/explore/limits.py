"""What the page takes, and what it says about the rest."""

from __future__ import annotations

from separable.errors import SeparableError

__all__ = [
    "IMAGE_SIDE",
    "KERNEL_ELEMENTS",
    "KERNEL_SIDE",
    "PIXELS",
    "STORE_BYTES",
    "UPLOAD_BYTES",
    "BusyError",
    "InputError",
]

UPLOAD_BYTES = 32 << 20  # of one upload
STORE_BYTES = 128 << 20  # of all uploads kept; the oldest go
PIXELS = 40_000_000  # of a picture before it is made smaller: more is taken for a bomb
IMAGE_SIDE = 1024  # pixels; larger pictures are made smaller for the page
KERNEL_ELEMENTS = 1 << 16
KERNEL_SIDE = 255


class InputError(SeparableError, ValueError):
    """What the page was given cannot be used; the message is shown on it."""


class BusyError(SeparableError):
    """Too much is being computed at once."""
