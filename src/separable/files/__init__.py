"""Read and write images and volumes, whole or in regions.

PNG, JPEG, BMP, TIFF, OME-TIFF, NPY, NIfTI, Zarr, OME-Zarr, HDF5, netCDF, ENVI, MetaImage, NRRD and
DICOM. A file is written under
a temporary name and takes its own once it is complete. Every failure is a `FileError` that says
what was expected, what was got and what to do.

`register_format` adds a format; `registered_formats` lists them.
"""

from separable.files.chunked_io import Source, Target
from separable.files.file_format import CreateRequest, Format, metadata_kept
from separable.files.format_registry import (
    is_image_path,
    register_format,
    registered_formats,
    unregister_format,
)
from separable.files.image_filter import FilteredImage, filter_image
from separable.files.image_info import Alpha, ImageInfo
from separable.files.images import read_image, write_image
from separable.files.opening import check_target, create_target, open_source
from separable.files.several_images import count_images, write_images
from separable.files.statements import ANSWERS, STATEMENTS, Answer, Statement, answers_of

__all__ = [
    "ANSWERS",
    "STATEMENTS",
    "Alpha",
    "Answer",
    "CreateRequest",
    "FilteredImage",
    "Format",
    "ImageInfo",
    "Source",
    "Statement",
    "Target",
    "answers_of",
    "check_target",
    "count_images",
    "create_target",
    "filter_image",
    "is_image_path",
    "metadata_kept",
    "open_source",
    "read_image",
    "register_format",
    "registered_formats",
    "unregister_format",
    "write_image",
    "write_images",
]
