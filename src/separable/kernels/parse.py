"""Kernels from text, for the command line: ``gaussian:2``, ``sobel:axis=0``, ``box:5mm``."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from separable.errors import ArgumentError, ArgumentTypeError
from separable.kernels import (
    bandpass,
    derivative_kernels,
    shapes,
    smoothing_kernels,
    textures,
    wavelet_kernels,
)
from separable.kernels.kernel_arguments import (
    Kernel,
    PerAxis,
)
from separable.kernels.units import Lengths, has_units, measured, read_lengths

__all__ = [
    "catalogue",
    "kernel_by_name",
    "lengths_of",
    "parse_spec",
    "register_kernel",
    "unregister_kernel",
]

Reader = Callable[[str], Any]


def _number(text: str) -> float:
    return float(text)


def _integer(text: str) -> int:
    return int(text)


def _text(text: str) -> str:
    return text


def _yes(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _angle(text: str) -> float:
    degrees = text.removesuffix("deg")
    return float(text) if degrees == text else math.radians(float(degrees))


def _length(text: str) -> Lengths:
    found = read_lengths(text)
    if len(found.values) > 1:
        raise ValueError(text)
    return found


def _lengths(text: str) -> Lengths:
    return read_lengths(text)


def _sizes(text: str) -> Lengths:
    return read_lengths(text)


def _integers(text: str) -> int | tuple[int, ...]:
    return tuple(map(int, text.split("x"))) if "x" in text else int(text)


WANTED: dict[Reader, str] = {
    _number: "a number",
    _integer: "a whole number",
    _text: "a name",
    _yes: "true or false",
    _angle: "an angle in radians, or in degrees as 45deg",
    _length: "a number",
    _lengths: "a number, or one per axis as 2x1x1",
    _sizes: "a whole number, or one per axis as 5x3x3",
    _integers: "a whole number, or one per axis as 5x3x3",
}


@dataclass(frozen=True)
class _Entry:
    """Kernel of the catalogue: its function, the readers of its parameters in order, and its axes."""

    make: Callable[..., Kernel]
    parameters: dict[str, Reader] = field(default_factory=dict)
    ndim: int | None = None  # None: any number, set by the keyword `ndim`
    one_axis: Callable[..., Kernel] | None = None

    @property
    def is_measured(self) -> bool:
        """True if the kernel has a physical size."""
        return "spacing" in inspect.signature(self.make).parameters

    @property
    def required(self) -> list[str]:
        signature = inspect.signature(self.make).parameters
        empty = inspect.Parameter.empty
        return [p for p in self.parameters if signature[p].default is empty]


_GAUSSIAN: dict[str, Reader] = {"truncate": _number, "radius": _integers}
_AXIS: dict[str, Reader] = {"axis": _integer}

_ENTRIES: dict[str, _Entry] = {
    "ball": _Entry(shapes.ball, {"radius": _length}, ndim=3),
    "binomial": _Entry(
        smoothing_kernels.binomial, {"size": _integers}, one_axis=smoothing_kernels.binomial1d
    ),
    "box": _Entry(smoothing_kernels.box, {"size": _sizes}, one_axis=smoothing_kernels.box1d),
    "central_difference": _Entry(derivative_kernels.central_difference, _AXIS),
    "difference_of_gaussians": _Entry(
        bandpass.difference_of_gaussians,
        {"sigma_low": _lengths, "sigma_high": _lengths, "truncate": _number},
    ),
    "disk": _Entry(shapes.disk, {"radius": _length}, ndim=2),
    "gabor": _Entry(
        bandpass.gabor,
        {
            "wavelength": _length,
            "theta": _angle,
            "sigma": _length,
            "gamma": _number,
            "phase": _angle,
            "truncate": _number,
            "radius": _integer,
        },
        ndim=2,
    ),
    "gaussian": _Entry(
        smoothing_kernels.gaussian,
        {"sigma": _lengths, "order": _integers, **_GAUSSIAN},
        one_axis=smoothing_kernels.gaussian1d,
    ),
    "laplace": _Entry(derivative_kernels.laplace),
    "laplacian_of_gaussian": _Entry(
        derivative_kernels.laplacian_of_gaussian, {"sigma": _lengths, **_GAUSSIAN}
    ),
    "laws": _Entry(textures.laws, {"vectors": _text, "normalised": _yes}),
    "motion": _Entry(shapes.motion, {"length": _length, "angle": _angle}, ndim=2),
    "pillbox": _Entry(shapes.pillbox, {"radius": _length}, ndim=2),
    "prewitt": _Entry(derivative_kernels.prewitt, _AXIS),
    "scharr": _Entry(derivative_kernels.scharr, _AXIS),
    "sharpen": _Entry(bandpass.sharpen, {"sigma": _lengths, "amount": _number, **_GAUSSIAN}),
    "sobel": _Entry(derivative_kernels.sobel, _AXIS),
    "wavelet": _Entry(wavelet_kernels.wavelet, {"name": _text, "bands": _text}),
}

_SHORT = {"dog": "difference_of_gaussians", "log": "laplacian_of_gaussian"}


def catalogue() -> dict[str, str]:
    """Return the names that `parse_spec` knows, each with a one-line description.

    Examples
    --------
    >>> sorted(catalogue())[:5]
    ['ball', 'binomial', 'box', 'central_difference', 'difference_of_gaussians']
    >>> catalogue()["box"]
    'the mean over a box, of rank 1 in any dimension'
    """
    return {name: _summary(entry.make) for name, entry in _ENTRIES.items()}


# The words for the types of parameters in `register_kernel`.
_READERS: dict[str, Reader] = {
    "number": _number,
    "integer": _integer,
    "integers": _integers,
    "text": _text,
    "flag": _yes,
    "angle": _angle,
    "length": _length,
    "lengths": _lengths,
    "sizes": _sizes,
}


def register_kernel(
    make: Callable[..., Kernel], parameters: Mapping[str, str], *, ndim: int | None = None
) -> None:
    """Add a function to the catalogue, under its own name.

    Parameters
    ----------
    make : callable
        Function that returns the kernel. The first line of its docstring describes the kernel in lists.
    parameters : mapping of str to str
        Types of the parameters, in their order: "number", "integer", "integers" (one per axis), "text",
        "flag", "angle", "length", "lengths" (one per axis) or "sizes" (whole numbers, one per axis).
    ndim : int, optional
        Number of axes of the kernel; default: any, given to the function as ``ndim=``.

    Raises
    ------
    ArgumentError
        If the name is taken, or a type or a parameter is unknown.

    Examples
    --------
    >>> def spike(height):
    ...     "Return one weight."
    ...     return [[height]]
    >>> register_kernel(spike, {"height": "number"}, ndim=2)
    >>> parse_spec("spike:3"), catalogue()["spike"]
    ([[3.0]], 'one weight')
    >>> unregister_kernel("spike")
    """
    name = make.__name__
    if name in _ENTRIES or name in _SHORT:
        raise ArgumentError(f"`make` must have a new name; the catalogue has {name!r} already")
    for key, kind in parameters.items():
        if kind not in _READERS:
            raise ArgumentError(
                f"`parameters` must have types among {', '.join(_READERS)}; got {key}={kind!r}"
            )
        if key not in inspect.signature(make).parameters:
            raise ArgumentError(f"`parameters` must name parameters of {name}; got {key!r}")
    _ENTRIES[name] = _Entry(make, {key: _READERS[kind] for key, kind in parameters.items()}, ndim)


def unregister_kernel(name: str) -> None:
    """Remove a kernel that `register_kernel` added."""
    _ENTRIES.pop(name, None)


def _summary(function: Callable[..., Kernel]) -> str:
    first = (inspect.getdoc(function) or "").partition("\n")[0]
    return first.removeprefix("Return ").removesuffix(".")


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
    name, _, values = text.strip().partition(":")
    name, entry = _entry(name)
    arguments = _arguments(name, entry, values)
    missing = [p for p in entry.required if p not in arguments]
    if missing:
        raise ArgumentError(
            f"kernel `{name}` needs `{missing[0]}`; got {text!r}. "
            f"Write it as {name}:{missing[0].upper()}; it takes {_accepted(entry)}"
        )
    plain, steps = measured(text.strip(), arguments, spacing, unit)
    if entry.is_measured and steps is not None:
        plain["spacing"] = steps
    else:
        _check_whole(name, entry, arguments, plain)
    return _call(name, entry, plain, ndim)


def lengths_of(name: str) -> dict[str, bool]:
    """Return the parameters of a kernel that are lengths; True if there may be one per axis.

    Raises
    ------
    ArgumentError
        If there is no kernel of that name.

    Examples
    --------
    >>> lengths_of("gaussian"), lengths_of("disk"), lengths_of("sobel")
    ({'sigma': True}, {'radius': False}, {})
    """
    readers = _entry(name)[1].parameters
    kinds = {_length: False, _lengths: True, _sizes: True}
    return {key: kinds[reader] for key, reader in readers.items() if reader in kinds}


def kernel_by_name(
    name: str, arguments: dict[str, Any], ndim: int, spacing: PerAxis | None = None
) -> Kernel:
    """Return a kernel of the catalogue from its name and the arguments of its function.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If there is no kernel of that name and number of axes, or an argument is wrong.

    Examples
    --------
    >>> kernel_by_name("log", {"sigma": 2}, 3, spacing=(2, 1, 1)).shape
    (9, 17, 17)
    """
    full, entry = _entry(name)
    order = list(entry.parameters)
    for key in arguments:
        if key not in order:
            raise ArgumentTypeError(
                f"{_unknown('parameter', key, order)} Kernel `{full}` takes {_accepted(entry)}"
            )
    for key in entry.required:
        if key not in arguments:
            raise ArgumentTypeError(f"kernel `{full}` needs `{key}`; it takes {_accepted(entry)}")
    measured_too = {} if spacing is None or not entry.is_measured else {"spacing": spacing}
    return _call(full, entry, {**arguments, **measured_too}, ndim)


def _entry(name: str) -> tuple[str, _Entry]:
    full = _SHORT.get(name, name)
    if full not in _ENTRIES:
        raise ArgumentError(_unknown("kernel", full, [*_ENTRIES, *_SHORT]))
    return full, _ENTRIES[full]


def _arguments(name: str, entry: _Entry, values: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    order = list(entry.parameters)
    for position, item in enumerate(values.split(",") if values.strip() else []):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            if position >= len(order):
                raise ArgumentError(
                    f"kernel `{name}` takes {_accepted(entry)}; got one value more, {item!r}"
                )
            key, value = order[position], key
        if key not in entry.parameters:
            raise ArgumentError(
                f"{_unknown('parameter', key, order)} Kernel `{name}` takes {_accepted(entry)}"
            )
        if key in found:
            raise ArgumentError(f"kernel `{name}` got `{key}` twice; the second is {value!r}")
        reader = entry.parameters[key]
        try:
            found[key] = reader(value)
        except ValueError:
            raise ArgumentError(_unread(name, key, reader, value)) from None
    return found


def _check_whole(
    name: str, entry: _Entry, arguments: dict[str, Any], plain: dict[str, Any]
) -> None:
    """Convert sizes in samples to int, or refuse them."""
    for key in (k for k in plain if entry.parameters.get(k) is _sizes):
        given: Lengths = arguments[key]
        if any(v != v // 1 for v in given.values):
            raise ArgumentError(_unread(name, key, _sizes, given.text))
        whole = tuple(int(v) for v in given.values)
        plain[key] = whole[0] if len(whole) == 1 else whole


def _unread(name: str, key: str, reader: Reader, value: str) -> str:
    bare = " without a unit" if has_units(f":{value}") and reader in (_number, _integers) else ""
    return f"`{key}` of kernel `{name}` must be {WANTED[reader]}{bare}; got {value!r}"


def _call(name: str, entry: _Entry, arguments: dict[str, Any], ndim: int | None) -> Kernel:
    if ndim == 1 and entry.ndim is None:
        if entry.one_axis is None:
            raise ArgumentError(
                f"kernel `{name}` has 2 axes or more; got ndim=1. On one axis there are "
                f"{', '.join(n for n, e in _ENTRIES.items() if e.one_axis)}; for a derivative "
                "write gaussian:SIGMA,order=1"
            )
        return entry.one_axis(**arguments)
    if entry.ndim is None:
        given = {} if ndim is None else {"ndim": ndim}
        return entry.make(**arguments, **given)
    if ndim not in (None, entry.ndim):
        other = {"disk": ". The one of 3 axes is `ball`", "ball": ". The one of 2 axes is `disk`"}
        raise ArgumentError(
            f"kernel `{name}` has {entry.ndim} axes; got ndim={ndim}{other.get(name, '')}"
        )
    return entry.make(**arguments)


def _accepted(entry: _Entry) -> str:
    names = [f"`{p}`" for p in entry.parameters]
    return ", ".join(names) if names else "no parameters"


def _unknown(what: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"unknown {what} `{name}`. Did you mean `{close[0]}`?"
    if what == "parameter":
        return f"unknown {what} `{name}`."
    return f"unknown {what} `{name}`: there are {', '.join(sorted(known))}"
