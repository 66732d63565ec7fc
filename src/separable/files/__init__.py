"""Read and write images and volumes, whole or by parts.

PNG, JPEG, BMP, TIFF, OME-TIFF, NPY, NIfTI, Zarr, OME-Zarr, HDF5 and ENVI. A file is written
under another name and takes its own at the end, whole or not at all. Every failure is a
`FileError` that says what was expected, what was got and what to do.

A further format is one more `Format` in `FORMATS`.
"""

from separable.files.chunked_io import Source, Target
from separable.files.file_format import Format, ImageInfo
from separable.files.images import FORMATS, check_target, is_image_path, read_image, write_image
from separable.files.opening import create_target, open_source

__all__ = [
    "FORMATS",
    "Format",
    "ImageInfo",
    "Source",
    "Target",
    "check_target",
    "create_target",
    "is_image_path",
    "open_source",
    "read_image",
    "write_image",
]
