"""Read and write images and volumes: PNG, JPEG, BMP, TIFF and NPY.

A file is written under another name and takes its own at the end, whole or not at all. Every
failure is a `FileError` that says what was expected, what was got and what to do.

A further format is one more `Format` in `FORMATS`.
"""

from separable.files.core import FORMATS, check_target, is_image_path, read_image, write_image
from separable.files.formats import Format, ImageInfo

__all__ = [
    "FORMATS",
    "Format",
    "ImageInfo",
    "check_target",
    "is_image_path",
    "read_image",
    "write_image",
]
