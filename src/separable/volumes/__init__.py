"""Filter volumes larger than memory, files and Dask arrays, block by block.

Results are bit-identical to in-memory filtering, for any blocks and every border mode. The plan is
made for the whole volume; `chunkwise` chooses a method whose results do not depend on how a volume
is cut into blocks. `needs` returns the samples that a region of the result depends on, and
`filter_block` computes the region from them. `filter` filters a file within a memory limit, `bank` filters
it with several kernels.
"""

from __future__ import annotations

import os
from typing import Any

from separable.errors import ArgumentError, ArgumentTypeError
from separable.files.format_registry import in_parts
from separable.files.image_filter import filter_whole_file
from separable.files.several_images import chosen_images
from separable.volumes.bank_files import BankRun, bank
from separable.volumes.file_checks import are_large
from separable.volumes.file_to_file import filter
from separable.volumes.filter_file import Run
from separable.volumes.halo import BlockFilter, chunkwise, filter_block, needs
from separable.volumes.joined_images import JoinedImages
from separable.volumes.slab_schedule import Schedule

IN_PARTS = {"memory", "chunks", "resume", "client"}  # options of files that are filtered in parts

__all__ = [
    "BankRun",
    "BlockFilter",
    "JoinedImages",
    "Run",
    "Schedule",
    "bank",
    "chunkwise",
    "filter",
    "filter_block",
    "filter_with",
    "needs",
]


def filter_with(
    image: Any, kernel: Any, output: Any = None, *, progress: Any = None, **options: Any
) -> Any:
    """Filter a Dask array, lazily, or a file, as `convolve` and `correlate` request it.

    The parameters are those of `separable.filtering.filter_with`. For a file, `output` is the path
    of the file to write, which is returned, and `options` may also be those of
    `separable.volumes.filter`.

    Examples
    --------
    >>> import dask.array as da
    >>> float(filter_with(da.ones((4, 6), chunks=2), [[1, 1, 1]]).sum().compute())
    72.0
    """
    if type(image).__module__.partition(".")[0] == "dask":
        # Imported here because Dask is optional.
        from separable.volumes.dask_arrays import filter_dask

        return filter_dask(image, kernel, output, progress=progress, **options)
    if not isinstance(image, (str, os.PathLike)):
        raise ArgumentTypeError(
            f"`image` must be a Dask array or the path of a file; got {type(image).__name__}"
        )
    if not isinstance(output, (str, os.PathLike)):
        raise ArgumentError(
            f"`output` must be the path of the file to write because the image is a file ({image}); got "
            f"{output!r}. To filter it in memory, read it first: separable.files.read_image"
        )
    asked = options.keys() & IN_PARTS
    by_parts = asked or in_parts(image, output)
    if by_parts and not asked:  # several images are compressed only where they are written whole
        count = len(chosen_images(image, output, options.get("image", "auto")))
        by_parts = count == 1 or are_large(image, count)
    if by_parts:
        filter(image, output, kernel, progress=progress, **options)
    else:  # pictures, which are read and written whole, and small files with several images
        filter_whole_file(image, output, kernel, progress=progress, **options)
    return output
