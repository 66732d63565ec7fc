"""What the page takes, and what it says about the rest."""

from __future__ import annotations

from separable.errors import SeparableError

__all__ = [
    "BODIES_BYTES",
    "BODY_SECONDS",
    "DRAIN_SECONDS",
    "IMAGE_SIDE",
    "KERNEL_ELEMENTS",
    "KERNEL_SIDE",
    "PIXELS",
    "STALLED_SECONDS",
    "STORE_BYTES",
    "UPLOADS_AT_ONCE",
    "UPLOAD_BYTES",
    "WORK_SECONDS",
    "InputError",
]

UPLOAD_BYTES = 32 << 20  # of one upload
BODIES_BYTES = 96 << 20  # of all bodies of requests that are being read or worked on
UPLOADS_AT_ONCE = 8
BODY_SECONDS = 60.0  # that a body may take to arrive
STALLED_SECONDS = 10.0  # without any byte of it
DRAIN_SECONDS = 5.0  # that the rest of a refused body is let pass
WORK_SECONDS = 120.0  # that one computation may take
STORE_BYTES = 128 << 20  # of all uploads kept; the oldest go
PIXELS = 40_000_000  # of a picture before it is made smaller: more is taken for a bomb
IMAGE_SIDE = 1024  # pixels; larger pictures are made smaller for the page
KERNEL_ELEMENTS = 1 << 16
KERNEL_SIDE = 255


class InputError(SeparableError, ValueError):
    """What the page was given cannot be used; the message is shown on it."""
