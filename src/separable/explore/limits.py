"""Limits of the page, and the error for input that exceeds or violates them."""

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
    "QUESTION_BYTES",
    "STALLED_SECONDS",
    "STORE_BYTES",
    "UPLOADS_AT_ONCE",
    "UPLOAD_BYTES",
    "WORK_SECONDS",
    "InputError",
]

UPLOAD_BYTES = 32 << 20  # largest upload
BODIES_BYTES = 96 << 20  # all request bodies that are being read or worked on
QUESTION_BYTES = 16 << 20  # part of them that uploads leave to questions, which are small
UPLOADS_AT_ONCE = 8
BODY_SECONDS = 60.0  # longest time for a body to arrive
STALLED_SECONDS = 10.0  # longest pause within a body
DRAIN_SECONDS = 5.0  # longest time to discard the rest of a refused body
WORK_SECONDS = 120.0  # longest computation
STORE_BYTES = 128 << 20  # all uploads kept; the oldest are dropped
PIXELS = 40_000_000  # largest picture before scaling; more may be a decompression bomb
IMAGE_SIDE = 1024  # pixels; larger pictures are scaled down for the page
KERNEL_ELEMENTS = 1 << 16
KERNEL_SIDE = 255


class InputError(SeparableError, ValueError):
    """Input that the page cannot use; the message is shown on the page."""
