"""Several images in one file: frames of a picture, positions of a microscope, series of a TIFF file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from separable.errors import ArgumentError, FileError
from separable.files.atomic_write import whole_or_nothing
from separable.files.diagnostics import reason_of, remedy_of
from separable.files.format_registry import PathLike, locate
from separable.files.image_info import Array, ImageInfo
from separable.files.opening import check_target, explain_errors, lost_metadata

__all__ = ["ImageChoice", "choice_note", "chosen_images", "count_images", "one_image",
           "write_images"]  # fmt: skip

ImageChoice: TypeAlias = int | str  # a number from 1, "all" or "auto"


def count_images(path: PathLike) -> int:
    """Return the number of images in a file.

    Thumbnails, overviews and masks of TIFF files, and arrays inside Zarr and HDF5, do not count.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    FileError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from separable import files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pictures = [(np.full((2, 3), n, "uint8"), files.ImageInfo("YX")) for n in (1, 2)]
    ...     _ = write_images(f"{folder}/two.png", pictures)
    ...     count_images(f"{folder}/two.png")
    2
    """
    file, _, format = locate(path, "read")
    if format.count is None:
        return 1
    with explain_errors(file, format):
        return format.count(file)


def chosen_images(
    source: PathLike, target: PathLike, image: ImageChoice, *, by_parts: bool = False
) -> tuple[int, ...]:
    """Return the numbers of the images to filter; "auto" means all if the target holds several, else the first.

    Parameters
    ----------
    source, target : str or path
    image : int or str
        A number from 1, "all" or "auto".
    by_parts : bool
        Whether the target is written by parts.

    Raises
    ------
    ArgumentError
        If there is no such image.
    FileError
        If all are asked for and the target holds one.
    """
    count = count_images(source)
    if isinstance(image, int) and not isinstance(image, bool):
        if 1 <= image <= count:
            return (image,)
    elif image in ("all", "auto"):
        format = locate(target, "write")[2]
        holds_several = format.join if by_parts else format.write_several
        if count == 1 or holds_several is not None:
            return tuple(range(1, count + 1))
        if image == "auto":
            return (1,)
        raise FileError(
            f"cannot write all {count} images of {source} to {target}: {format.name} holds one. Choose one "
            "(--image N, image=N), or write .tif"
        )
    raise ArgumentError(f"`image` must be 1 .. {count}, all or auto, for {source}; got {image!r}")


def one_image(source: PathLike, image: ImageChoice) -> int:
    """Return the number of the image that a run by parts filters; "auto" means the first.

    Raises
    ------
    ArgumentError
        If there is no such image, or all are asked for.
    """
    if image == "auto":
        return 1
    if isinstance(image, int) and not isinstance(image, bool):
        return image  # checked when it is opened
    count = count_images(source)
    if image == "all" and count == 1:
        return 1
    raise ArgumentError(
        f"`image` must be a number 1 .. {count}, because a run filters one image; got {image!r}. Filter "
        "all of them with `filter`"
    )


def choice_note(numbers: Sequence[int], count: int) -> str:
    """Return in words which images of a file were filtered; nothing if it holds one.

    Examples
    --------
    >>> choice_note((2,), 5)
    'filtered image 2 of 5; choose with --image N (image=N)'
    """
    if count == 1:
        return ""
    if len(numbers) == count:
        return f"filtered all {count} images of the file"
    return f"filtered image {numbers[0]} of {count}; choose with --image N (image=N)"


def write_images(
    path: PathLike, images: Sequence[tuple[Array, ImageInfo]], *, overwrite: bool = False
) -> tuple[str, ...]:
    """Write several images into one file; the file appears only once it is complete.

    Parameters
    ----------
    path : str or path
        PNG or GIF (an animation), JPEG (as MPO) or TIFF, by its suffix.
    images : sequence of (ndarray, ImageInfo)
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    notes : tuple of str
        Metadata that the format cannot keep, in words.

    Raises
    ------
    FileError
        As `write_image`, or if the format holds one image.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from separable import files
    >>> images = [(np.full((2, 3), n, "uint8"), files.ImageInfo("YX")) for n in (1, 2)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_images(f"{folder}/two.tif", images)
    ...     print(files.read_image(f"{folder}/two.tif", image=2)[0].tolist())
    [[2, 2, 2], [2, 2, 2]]
    """
    path = Path(path)
    if not images:
        raise ArgumentError("`images` must hold at least one image; got none")
    for array, _ in images:
        format = check_target(path, array.shape, array.dtype, overwrite=overwrite)
    if format.write_several is None:
        raise FileError(
            f"cannot write {len(images)} images to {path}: {format.name} holds one. Write .tif"
        )
    try:
        with whole_or_nothing(path.resolve(), overwrite) as file:
            told = format.write_several(file, images, path) or ()
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"cannot write {path}: {reason_of(error)}{remedy_of(error)}") from None
    lost = (lost_metadata(info, format, a.shape, a.dtype, path) for a, info in images)
    return tuple(dict.fromkeys((*told, *(note for notes in lost for note in notes))))
