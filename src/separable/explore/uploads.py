"""Decode uploaded kernels and pictures without executing anything; store them in limited memory."""

from __future__ import annotations

import io
import secrets
import struct
import threading
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.explore.limits import (
    IMAGE_SIDE,
    KERNEL_ELEMENTS,
    KERNEL_SIDE,
    PIXELS,
    STORE_BYTES,
    InputError,
)
from separable.kernels.matrix_parser import parse_matrix

__all__ = ["Store", "check_kernel", "decode_image", "decode_kernel"]

Array = NDArray[Any]

NPY = b"\x93NUMPY"
LONGEST_TEXT = 1 << 20  # characters of a kernel given as text


class Store:
    """Arrays by name; the oldest are dropped when all together are too large."""

    def __init__(self, max_bytes: int = STORE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._arrays: OrderedDict[str, Array] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, array: Array) -> str:
        """Store an array and return its name."""
        name = secrets.token_urlsafe(9)
        with self._lock:
            self._arrays[name] = array
            while len(self._arrays) > 1 and self.nbytes > self._max_bytes:
                self._arrays.popitem(last=False)
        return name

    def get(self, name: str) -> Array:
        """Return a stored array."""
        with self._lock:
            if name not in self._arrays:
                raise InputError("that upload is no longer stored. Upload it again")
            self._arrays.move_to_end(name)
            return self._arrays[name]

    @property
    def nbytes(self) -> int:
        """Total size of all arrays."""
        return sum(a.nbytes for a in self._arrays.values())


def decode_image(content: bytes) -> tuple[Array, str]:
    """Read a picture, or a NumPy array of shape (y, x), (y, x, 3) or (y, x, 4).

    Returns
    -------
    image : ndarray, shape (y, x) or (y, x, 3)
        uint8 or float32, at most `IMAGE_SIDE` pixels on a side.
    note : str
        How the picture was scaled; may be empty.
    """
    if content.startswith(NPY):
        array = _npy(content, PIXELS)
        if array.dtype.kind not in "biuf":
            raise InputError(f"a picture holds real numbers; got {array.dtype}")
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
            raise InputError(f"a picture has shape (y, x) or (y, x, 3); got {array.shape}")
        if not np.isfinite(array).all():
            raise InputError("the picture holds NaN or infinity. Replace them first")
        array = array[..., :3] if array.ndim == 3 else array
        picture = array if array.dtype == np.uint8 else array.astype(np.float32)
    else:
        picture = _picture(content)
    if min(picture.shape[:2]) == 0:
        raise InputError(f"the picture is empty: shape {picture.shape}")
    longest = max(picture.shape[:2])
    if longest <= IMAGE_SIDE:
        return np.ascontiguousarray(picture), ""
    step = -(-longest // IMAGE_SIDE)
    before = f"{picture.shape[1]} x {picture.shape[0]}"
    small = _smaller(picture, step)
    return small, f"scaled down {step} times for this page, from {before} pixels"


def decode_kernel(content: bytes) -> Array:
    """Read a kernel: a NumPy array, or numbers as text with one row per line."""
    if content.startswith(NPY):
        return check_kernel(_npy(content, KERNEL_ELEMENTS))
    if len(content) > LONGEST_TEXT:
        raise InputError(
            "expected a kernel as .npy or as lines of numbers; got a large file of another type"
        )
    try:
        return check_kernel(parse_matrix(content.decode("utf-8"))[0])
    except UnicodeDecodeError:
        raise InputError(
            "expected a kernel as .npy or as lines of numbers, such as 1 2 1; got something else"
        ) from None


def check_kernel(values: Array) -> Array:
    """Return a kernel that the page can show, as float64 or int64."""
    if values.dtype.kind not in "biuf":
        raise InputError(f"a kernel holds real numbers; got {values.dtype}")
    if not 1 <= values.ndim <= 3 or values.size == 0:
        raise InputError(f"a kernel has one to three axes and is not empty; got {values.shape}")
    if values.size > KERNEL_ELEMENTS or max(values.shape) > KERNEL_SIDE:
        raise InputError(
            f"a kernel on this page has at most {KERNEL_ELEMENTS:,} elements, {KERNEL_SIDE} per side; got "
            f"{'x'.join(map(str, values.shape))}. Use `separable kernel --file` for larger ones"
        )
    if not np.isfinite(values).all():
        raise InputError("the kernel holds NaN or infinity: every weight must be a number")
    if values.dtype.kind == "f":
        kernel = values.astype(np.float64)
        if float(np.abs(kernel).max()) > 1e100:
            raise InputError("the kernel's weights are beyond 1e100. Scale it down")
        return kernel
    return values.astype(np.int64)


def _npy(content: bytes, max_elements: int) -> Array:
    """Read a .npy file; its header may not claim more than the file holds."""
    source = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(source)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
            np.lib.format.read_array_header_2_0
        )  # fmt: skip
        shape, _, dtype = read(source, max_header_size=10_000)
        count = 1
        for length in shape:
            count *= int(length)
        if dtype.hasobject:
            raise InputError("the file holds Python objects; only plain numbers are read")
        if count > max_elements:
            raise InputError(
                f"the array has {count:,} elements; at most {max_elements:,} are accepted"
            )
        if count * dtype.itemsize > len(content):
            raise InputError("the file is truncated: its header claims more data than it holds")
        source.seek(0)
        loaded: Array = np.load(source, allow_pickle=False)
    except InputError:
        raise
    except (ValueError, TypeError, EOFError, OSError, SyntaxError, struct.error, OverflowError):
        raise InputError("the .npy file is damaged. Save it again with numpy.save") from None
    return loaded


def _picture(content: bytes) -> Array:
    from PIL import Image, ImageOps, UnidentifiedImageError  # optional

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(
                io.BytesIO(content), formats=("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
            )
            width, height = image.size
            if width * height > PIXELS:
                raise InputError(
                    f"the picture has {width} x {height} pixels; at most {PIXELS // 10**6} million "
                    "are accepted"
                )
            if image.mode.startswith(("I", "F")):
                return np.asarray(image, np.float32)
            upright = ImageOps.exif_transpose(image)
            grey = upright.mode in ("1", "L", "LA")
            return np.asarray(upright.convert("L" if grey else "RGB"))
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(
            f"the picture claims more than {PIXELS // 10**6} million pixels, which is too large"
        ) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, MemoryError,
            struct.error, KeyError, TypeError):  # fmt: skip
        raise InputError(
            "expected a picture (PNG, JPEG, TIFF, BMP, GIF, WebP) or a .npy array; got a file that "
            "cannot be read as one"
        ) from None


def _smaller(picture: Array, step: int) -> Array:
    """Average squares of `step` pixels."""
    height, width = (n // step * step for n in picture.shape[:2])
    if min(height, width) == 0:  # a thin line
        return np.ascontiguousarray(picture[::step, ::step])
    cut = picture[:height, :width].astype(np.float32)
    blocks = cut.reshape(height // step, step, width // step, step, *picture.shape[2:])
    mean = blocks.mean(axis=(1, 3))
    small: Array = np.rint(mean).astype(np.uint8) if picture.dtype == np.uint8 else mean
    return small
