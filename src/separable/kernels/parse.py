"""Kernels from text: ``gaussian:2``, ``sobel:axis=0``, ``box:5mm``, ``1 2 1; 2 4 2; 1 2 1``."""

from __future__ import annotations

from typing import Any

import numpy as np

from separable.errors import ArgumentError, ArgumentTypeError, KernelError
from separable.kernels.kernel_arguments import Kernel, PerAxis
from separable.kernels.kernel_registry import (
    PARAMETER_TYPES,
    CatalogueKernel,
    catalogue_kernel,
    registered_kernels,
    unknown_name,
)
from separable.kernels.matrix_parser import is_matrix_text, parse_matrix
from separable.kernels.units import Lengths, has_units, measured

__all__ = ["kernel_by_name", "lengths_of", "parse", "parse_spec", "read_kernel_of"]


def parse(
    text: str, ndim: int | None = None, *, spacing: PerAxis | None = None, unit: str = ""
) -> Kernel:
    """Return the kernel that a text names or holds.

    Parameters
    ----------
    text : str
        A name with parameters, as `parse_spec` reads it (``"gaussian:2,order=1"``), or numbers: rows
        that end with a semicolon or a line, with or without brackets, as in MATLAB (``"[1 2 1; 2 4
        2]"``) and NumPy (``"np.array([[1, 2, 1], [2, 4, 2]])"``), with a factor (``"[1 2 1] / 4"``)
        and fractions (``"1/9 1/9 1/9"``).
    ndim : int, optional
        Number of axes. A named kernel is made for so many; one row of numbers gets or loses axes of
        length 1 before it.
    spacing : float or sequence of float, optional
        Distance between samples, for lengths of named kernels; see `parse_spec`.
    unit : str, optional
        Unit of `spacing`.

    Returns
    -------
    Factors or ndarray
        A named kernel as its function returns it; numbers as an array.

    Raises
    ------
    ArgumentError
        If the name or a parameter is unknown, as `parse_spec` says.
    KernelError
        If numbers cannot be read, make no rectangle, or have another number of axes than `ndim`. The
        message says where.

    Examples
    --------
    >>> parse("1 2 1; 2 4 2; 1 2 1").tolist()
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    >>> parse("sobel").shape
    (3, 3)
    >>> parse("1 2 1; 2 x 2")
    Traceback (most recent call last):
        ...
    separable.errors.KernelError: a kernel has numbers, such as 1 2 1; 2 4 2; 1 2 1; got 'x' in row 2, place 2
    """
    if not isinstance(text, str) or not is_matrix_text(text):
        return parse_spec(text, ndim, spacing=spacing, unit=unit)
    values, _ = parse_matrix(text)
    if ndim is None or values.ndim == ndim:
        return values
    row = values.reshape(-1) if values.size == values.shape[-1] else None
    if row is None or ndim < 1:
        raise KernelError(
            f"a kernel of {ndim} axes is needed; got {values.ndim} axes in {text[:40]!r}"
        )
    return row.reshape((1,) * (ndim - 1) + (-1,))


def read_kernel_of(kernel: Any, axes: Any, ndim: int) -> Any:
    """Return a kernel that may be given as text: the kernel it names for the filtered axes, or itself.

    Parameters
    ----------
    kernel : any
        Kernel of any form; only text is read.
    axes : int or sequence of int, optional
        Axes that are filtered.
    ndim : int
        Number of axes that are filtered if `axes` is None.

    Raises
    ------
    ArgumentError, KernelError
        As `parse` does.
    """
    if not isinstance(kernel, str):  # which a string of NumPy is, too
        return kernel
    return parse(kernel, ndim if axes is None else int(np.size(axes)))


# Step 1: read the name. Step 2: read each value. Step 3: convert lengths to the units of the spacing.
# Step 4: call the function of that name.


def parse_spec(
    text: str, ndim: int | None = None, *, spacing: PerAxis | None = None, unit: str = ""
) -> Kernel:
    """Return the kernel that a text describes.

    The text is a name, and after a colon its parameters: by position in the order of the
    function's signature, or as ``key=value``. Values for each axis are joined by ``x``. Angles may
    be in degrees, as ``45deg``. Lengths may have a unit: m, cm, mm, um (µm) or nm, or px for
    samples. A unit at the end of several lengths counts for all, as in ``3x1x1mm``. ``log`` and
    ``dog`` are short for `laplacian_of_gaussian` and `difference_of_gaussians`.

    Parameters
    ----------
    text : str
        Description of the kernel, for instance ``"gaussian:2,order=1"``.
    ndim : int, optional
        Number of axes, 1 .. 4. Default is the number of values per axis in the text, else 2 (3 for
        a ball).
    spacing : float or sequence of float, optional
        Distance between the centres of neighbouring samples, for all axes or for each. Lengths
        without a unit are then in its units, and derivatives per unit of it. Lengths in px remain
        in samples.
    unit : str, optional
        Unit of `spacing`, which lengths with units need: "mm", "micrometer" ...

    Returns
    -------
    Factors or ndarray
        Kernel as the function of that name returns it.

    Raises
    ------
    ArgumentError
        If the name or a parameter is unknown, a value cannot be read or is out of its range, the
        kernel has no version of `ndim` axes, or it has units and the spacing or its unit is not
        known.

    Examples
    --------
    >>> parse_spec("sobel:axis=0")
    Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
      y  -1 0 1
      x  1 2 1
    >>> parse_spec("gausian:2")
    Traceback (most recent call last):
        ...
    separable.errors.ArgumentError: unknown kernel `gausian`. Did you mean `gaussian`?
    >>> parse_spec("gaussian:2", ndim=1).shape
    (17,)

    For a volume with slices 3 mm apart and pixels of 0.5 mm:

    >>> parse_spec("gaussian:3mm", spacing=(3, 0.5, 0.5), unit="mm").shape
    (9, 49, 49)
    """
    if not isinstance(text, str):
        raise ArgumentTypeError(f"`text` must be a string such as 'gaussian:2'; got {text!r}")
    if not text.strip():
        raise ArgumentError(
            "a kernel is a name, such as gaussian:2, or numbers, such as 1 2 1; 2 4 2; 1 2 1; got an empty text"
        )
    name, _, values = text.strip().partition(":")
    kernel = catalogue_kernel(name)
    name = kernel.name
    arguments = _arguments(kernel, values)
    missing = kernel.missing(arguments)
    if missing:
        raise ArgumentError(
            f"kernel `{name}` needs `{missing}`; got {text!r}. "
            f"Write it as {name}:{','.join([*filter(None, [values.strip()]), missing.upper()])}; "
            f"it takes {_accepted(kernel)}{kernel.hint}"
        )
    plain, steps = measured(text.strip(), arguments, spacing, unit)
    if kernel.is_measured and steps is not None:
        plain["spacing"] = steps
    else:
        _check_whole(kernel, arguments, plain)
    return _call(kernel, plain, ndim)


def lengths_of(name: str) -> dict[str, bool]:
    """Return which parameters of a kernel are lengths, and whether each may differ between the axes.

    Raises
    ------
    ArgumentError
        If there is no kernel of that name.

    Examples
    --------
    >>> lengths_of("gaussian"), lengths_of("disk"), lengths_of("sobel")
    ({'sigma': True, 'fwhm': True}, {'radius': False}, {})
    """
    kinds = {"length": False, "lengths": True, "sizes": True}
    parameters = catalogue_kernel(name).parameters
    return {key: kinds[kind] for key, kind in parameters.items() if kind in kinds}


def kernel_by_name(
    name: str, arguments: dict[str, Any], ndim: int, spacing: PerAxis | None = None
) -> Kernel:
    """Make a kernel of the catalogue from its name and its arguments.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If there is no kernel of that name and number of axes, or an argument is wrong.

    Examples
    --------
    >>> kernel_by_name("log", {"sigma": 2}, 3, spacing=(2, 1, 1)).shape
    (9, 17, 17)
    """
    kernel = catalogue_kernel(name)
    order = list(kernel.parameters)
    for key in arguments:
        if key not in order:
            raise ArgumentTypeError(
                f"{unknown_name('parameter', key, order)} Kernel `{kernel.name}` takes "
                f"{_accepted(kernel)}"
            )
    missing = kernel.missing(arguments)
    if missing:
        raise ArgumentTypeError(
            f"kernel `{kernel.name}` needs `{missing}`; it takes {_accepted(kernel)}"
        )
    measured_too = {} if spacing is None or not kernel.is_measured else {"spacing": spacing}
    return _call(kernel, {**arguments, **measured_too}, ndim)


def _arguments(kernel: CatalogueKernel, values: str) -> dict[str, Any]:
    name = kernel.name
    found: dict[str, Any] = {}
    order = list(kernel.parameters)
    key = equals = ""
    texts: dict[str, str] = {}
    for position, item in enumerate(values.split(",") if values.strip() else []):
        before, equal = key, equals
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals and equal:
            raise ArgumentError(
                f"values per axis are joined by x: {before}={texts[before]}x{key}; got {values!r}"
            )
        if not equals:
            if position >= len(order):
                raise ArgumentError(
                    f"kernel `{name}` takes {_accepted(kernel)}; got one value more, {item!r}"
                )
            key, value = order[position], key
        if key not in kernel.parameters:
            raise ArgumentError(
                f"{unknown_name('parameter', key, order)} Kernel `{name}` takes {_accepted(kernel)}"
            )
        if key in found:
            raise ArgumentError(f"kernel `{name}` got `{key}` twice; the second is {value!r}")
        texts[key] = value
        try:
            found[key] = PARAMETER_TYPES[kernel.parameters[key]].read(value)
        except ValueError:
            raise ArgumentError(_unread(kernel, key, value)) from None
    return found


def _check_whole(kernel: CatalogueKernel, arguments: dict[str, Any], plain: dict[str, Any]) -> None:
    """Convert sizes in samples to int, or refuse them."""
    for key in (k for k in plain if kernel.parameters.get(k) == "sizes"):
        given: Lengths = arguments[key]
        if any(v != v // 1 for v in given.values):
            raise ArgumentError(_unread(kernel, key, given.text))
        whole = tuple(int(v) for v in given.values)
        plain[key] = whole[0] if len(whole) == 1 else whole


def _unread(kernel: CatalogueKernel, key: str, value: str) -> str:
    """Return the message for a value that cannot be read."""
    kind = kernel.parameters[key]
    bare = " without a unit" if has_units(f":{value}") and kind in ("number", "integers") else ""
    expected = PARAMETER_TYPES[kind].expected
    return f"`{key}` of kernel `{kernel.name}` must be {expected}{bare}; got {value!r}"


def _call(kernel: CatalogueKernel, arguments: dict[str, Any], ndim: int | None) -> Kernel:
    name = kernel.name
    if ndim == 1 and kernel.ndim is None:
        if kernel.one_axis is None:
            raise ArgumentError(
                f"kernel `{name}` has 2 axes or more; got ndim=1. On one axis there are "
                f"{', '.join(k.name for k in registered_kernels() if k.one_axis)}; for a derivative "
                "write gaussian:SIGMA,order=1"
            )
        return kernel.one_axis(**arguments)
    if kernel.ndim is None:
        given = {} if ndim is None else {"ndim": ndim}
        return kernel.make(**arguments, **given)
    if ndim not in (None, kernel.ndim):
        hint = f". {kernel.ndim_hint}" if kernel.ndim_hint else ""
        raise ArgumentError(f"kernel `{name}` has {kernel.ndim} axes; got ndim={ndim}{hint}")
    return kernel.make(**arguments)


def _accepted(kernel: CatalogueKernel) -> str:
    names = [f"`{p}`" for p in kernel.parameters]
    return ", ".join(names) if names else "no parameters"
