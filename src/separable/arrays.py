"""Conversion of images and kernels to NumPy arrays.

Other containers (lists, memory views, data frames, arrays of other libraries) are converted by
`numpy.asarray`, with two differences: a masked array stays masked, also inside a container
that hides it, and a value that cannot be converted raises an error that says what to do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError, ArgumentTypeError, DTypeError

__all__ = [
    "MASKED_REMEDY",
    "ImageShape",
    "array_of",
    "complete_array_of",
    "dask_array_of",
    "is_dask_array",
    "is_gpu_array",
    "package_of",
]

Array = NDArray[Any]

# Advice for masked samples if there already is a plan.
MASKED_REMEDY = "Call separable.convolve or separable.correlate, which take masked arrays, "
CPU = 1  # DLPack's number of the device "cpu"


@dataclass(frozen=True, eq=False)
class ImageShape:
    """Shape and type of an image without its samples: functions that take it make plans and compute nothing.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    calls : list
        What was asked for, in order, by functions that compute several results.

    Examples
    --------
    >>> ImageShape((4, 5), np.dtype("uint8")).ndim
    2
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    calls: list[Any] = field(default_factory=list)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


def package_of(value: Any) -> str:
    """Return the name of the package that a value's type belongs to.

    Examples
    --------
    >>> package_of(np.zeros(2))
    'numpy'
    """
    return type(value).__module__.partition(".")[0]


def array_of(value: Any, name: str = "image") -> Array:
    """Return the array that a value is or holds.

    Parameters
    ----------
    value : array_like
        A Dask array is computed.
    name : str
        Name of the argument, for messages.

    Returns
    -------
    ndarray
        A `numpy.ma.MaskedArray` is returned as it is; other subclasses become plain arrays.

    Raises
    ------
    ArgumentTypeError
        If it cannot become an array: a data set of several variables, a sparse matrix, a GPU array.
    ArgumentError
        If it is a sequence of rows of different lengths.
    DTypeError
        If it is a single value that is not a number.

    Examples
    --------
    >>> array_of([1, 2]), array_of(memoryview(b"ab"))
    (array([1, 2]), array([97, 98], dtype=uint8))
    >>> array_of(np.ma.masked_equal([1, 2], 2)).mask
    array([False,  True])
    """
    if type(value) is np.ndarray or isinstance(value, np.ma.MaskedArray):
        return value
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if isinstance(value, ImageShape):
        raise ArgumentTypeError(
            f"`{name}` must have samples; got the shape of an image, which this function makes no plan for"
        )
    package = package_of(value)
    if package in ("xarray", "dask"):
        return array_of(_held_by(value, package, name), name)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise ArgumentTypeError(
            f"`{name}` must be a dense array; got a sparse one, {_kind(value)} of shape "
            f"{value.shape}. Convert it, if all its samples fit into memory, with .toarray()"
        )
    array = _converted(value, name, package)
    if array.dtype.kind == "O" and array.ndim == 0:
        raise DTypeError(f"`{name}` must be an array of numbers; got {_kind(value)}")
    return array


def dask_array_of(value: Any, name: str = "image") -> Any:
    """Return a Dask array; raise ArgumentTypeError for other lazy values of Dask."""
    if is_dask_array(value):
        return value
    raise ArgumentTypeError(
        f"`{name}` must be a Dask array; got {type(value).__name__}. Make one, for instance with "
        "dask.array.from_delayed or .to_dask_array(lengths=True)"
    )


def complete_array_of(value: Any, name: str = "image", remedy: str = "") -> Array:
    """Return the array that a value is or holds, without masked samples.

    `remedy` is advice that the message gives besides filling them.

    Raises
    ------
    ArgumentError
        If it has masked samples.
    SeparableError
        As for `array_of`.

    Examples
    --------
    >>> complete_array_of(np.ma.array([1, 2], mask=False))
    array([1, 2])
    """
    array = array_of(value, name)
    if not isinstance(array, np.ma.MaskedArray):
        return array
    count = 0 if array.dtype.names else int(np.sum(np.ma.getmaskarray(array)))
    if count:
        raise ArgumentError(
            f"`{name}` must have no masked samples; got {count} of {array.size} masked. "
            f"{remedy}{'or f' if remedy else 'F'}ill them, for instance with {name}.filled(0)"
        )
    return np.asarray(array)


def is_dask_array(value: Any) -> bool:
    """Return whether this is a Dask array, and not another lazy value of Dask."""
    return package_of(value) == "dask" and isinstance(getattr(value, "chunks", None), tuple)


def is_gpu_array(value: Any) -> bool:
    """Return whether this is an array of another library than PyTorch in the memory of a GPU.

    Examples
    --------
    >>> is_gpu_array(np.zeros(2))
    False
    """
    if isinstance(value, np.ndarray) or package_of(value) == "torch":
        return False
    try:
        if hasattr(value, "__cuda_array_interface__"):
            return True
        return hasattr(value, "__dlpack_device__") and int(value.__dlpack_device__()[0]) != CPU
    except Exception:
        return False


def _held_by(value: Any, package: str, name: str) -> Any:
    """Return the array inside a container of xarray or Dask."""
    if package == "dask":
        return dask_array_of(value, name).compute()
    if hasattr(value, "data_vars") or not hasattr(value, "dims") or not hasattr(value, "data"):
        names = ", ".join(repr(n) for n in getattr(value, "data_vars", ())) or "none"
        raise ArgumentTypeError(
            f"`{name}` must be one array; got an xarray.{type(value).__name__} of several variables "
            f"({names}). Choose one by its name, or filter each: dataset.map(lambda variable: "
            "separable.convolve(variable, kernel, axes=...))"
        )
    return value.data


def _converted(value: Any, name: str, package: str) -> Array:
    """Return what `numpy.asarray` makes of a value, or a masked array."""
    try:
        if isinstance(value, (list, tuple)) and any(_is_hidden(v) for v in value):
            rows = [array_of(v, name) if _is_hidden(v) else v for v in value]
            with warnings.catch_warnings():  # numpy.ma.masked among numbers is NaN under the mask
                warnings.simplefilter("ignore", UserWarning)
                return np.ma.array(rows)
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except Exception as error:
        if isinstance(value, (list, tuple)):
            raise ArgumentError(
                f"`{name}` must be an array of numbers; the rows of this {type(value).__name__} "
                f"have different lengths, or hold values that are not numbers ({_uneven_row(value) or _first_line(error)})"
            ) from None
        raise ArgumentTypeError(
            f"`{name}` must be an array of numbers in the computer's memory; got {_kind(value)}, "
            f"which NumPy cannot read ({_first_line(error)}). {_remedy(value, package)}"
        ) from None


def _uneven_row(rows: Any) -> str:
    """Say which row of nested lists is the first of another length, or return an empty string."""
    lengths = [len(row) if isinstance(row, (list, tuple)) else -1 for row in rows]
    for number, length in enumerate(lengths):
        if length != lengths[0]:
            named = (f"{n} numbers" if n >= 0 else "a number" for n in (lengths[0], length))
            return "{} in row 1 and {} in row {}".format(*named, number + 1)
    return ""


def _is_hidden(value: Any) -> bool:
    """Return whether an element of a sequence may have masked samples, which `numpy.asarray` ignores."""
    return isinstance(value, np.ma.MaskedArray) or package_of(value) in ("xarray", "dask")


def _remedy(value: Any, package: str) -> str:
    if package == "torch":
        return (
            "separable.convolve and separable.correlate take tensors; here give "
            "tensor.detach().cpu().float().numpy()"
        )
    if is_gpu_array(value):
        return (
            "Copy it from the GPU, for instance with .get(), or filter it there as a tensor: "
            "torch.as_tensor(array, device='cuda')"
        )
    return "Convert it to a NumPy array first"


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ") or type(error).__name__
