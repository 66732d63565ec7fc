"""The registry of kernels: from the names that users type to the functions that return kernels."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from separable.errors import ArgumentError
from separable.kernels import (
    bandpass,
    derivative_kernels,
    shapes,
    smoothing_kernels,
    textures,
    wavelet_kernels,
)
from separable.kernels.kernel_arguments import Kernel
from separable.kernels.units import Lengths, read_lengths

__all__ = [
    "PARAMETER_TYPES",
    "CatalogueKernel",
    "ParameterType",
    "catalogue_kernel",
    "register_kernel",
    "registered_kernels",
    "unknown_name",
    "unregister_kernel",
]


@dataclass(frozen=True)
class ParameterType:
    """Type of a parameter of a kernel.

    Attributes
    ----------
    read : callable
        Converts the text of a value; raises ValueError for other texts.
    expected : str
        Description of a value, for error messages.
    """

    read: Callable[[str], Any]
    expected: str


def _flag(text: str) -> bool:
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


def _integers(text: str) -> int | tuple[int, ...]:
    return tuple(map(int, text.split("x"))) if "x" in text else int(text)


PARAMETER_TYPES: dict[str, ParameterType] = {
    "number": ParameterType(float, "a number"),
    "integer": ParameterType(int, "a whole number"),
    "integers": ParameterType(_integers, "a whole number, or one per axis as 5x3x3"),
    "text": ParameterType(str, "a name"),
    "flag": ParameterType(_flag, "true or false"),
    "angle": ParameterType(_angle, "an angle in radians, or in degrees as 45deg"),
    "length": ParameterType(_length, "a number"),
    "lengths": ParameterType(read_lengths, "a number, or one per axis as 2x1x1"),
    "sizes": ParameterType(read_lengths, "a whole number, or one per axis as 5x3x3"),
}
"""Types of parameters, by the words that `register_kernel` takes."""


@dataclass(frozen=True)
class CatalogueKernel:
    """Kernel of the catalogue.

    Attributes
    ----------
    make : callable
        Function that returns the kernel.
    parameters : mapping of str to str
        Type of each parameter (a key of `PARAMETER_TYPES`), in the order of the text form.
    ndim : int, optional
        Number of axes of the kernel; None for any number, which the keyword `ndim` of `make` sets.
    one_axis : callable, optional
        Function that returns the 1-D kernel of a kernel with any number of axes.
    aliases : tuple of str
        Other names.
    one_of : tuple of str
        Parameters of which exactly one is needed, the usual one first.
    ndim_hint : str
        Sentence that names the kernel to use for another number of axes; may be empty.
    hint : str
        Text that follows the list of parameters where one is missing; may be empty.
    """

    make: Callable[..., Kernel]
    parameters: Mapping[str, str] = field(default_factory=dict)
    ndim: int | None = None
    one_axis: Callable[..., Kernel] | None = None
    aliases: tuple[str, ...] = ()
    ndim_hint: str = ""
    one_of: tuple[str, ...] = ()
    hint: str = ""

    @property
    def name(self) -> str:
        """Name of the kernel: that of its function."""
        return str(self.make.__name__)

    @property
    def description(self) -> str:
        """One line that describes the kernel, from the docstring of its function."""
        first = (inspect.getdoc(self.make) or "").partition("\n")[0]
        return first.removeprefix("Return ").removesuffix(".")

    @property
    def is_measured(self) -> bool:
        """True if the kernel has a physical size."""
        return "spacing" in inspect.signature(self.make).parameters

    def missing(self, given: Collection[str]) -> str:
        """Return the first parameter that is needed and not given, or an empty string."""
        signature = inspect.signature(self.make).parameters
        empty = inspect.Parameter.empty
        needed = [p for p in self.parameters if signature[p].default is empty]
        if self.one_of and not any(p in given for p in self.one_of):
            needed.append(self.one_of[0])
        return next((p for p in needed if p not in given), "")


_GAUSSIAN = {"truncate": "number", "radius": "integers"}
_AXIS = {"axis": "integer"}

_BUILT_IN = (
    CatalogueKernel(
        shapes.ball, {"radius": "length"}, ndim=3, ndim_hint="The one of 2 axes is `disk`"
    ),
    CatalogueKernel(
        smoothing_kernels.binomial, {"size": "integers"}, one_axis=smoothing_kernels.binomial1d
    ),
    CatalogueKernel(smoothing_kernels.box, {"size": "sizes"}, one_axis=smoothing_kernels.box1d),
    CatalogueKernel(derivative_kernels.central_difference, _AXIS),
    CatalogueKernel(
        bandpass.difference_of_gaussians,
        {"sigma_low": "lengths", "sigma_high": "lengths", "truncate": "number"},
        aliases=("dog",),
    ),
    CatalogueKernel(
        shapes.disk, {"radius": "length"}, ndim=2, ndim_hint="The one of 3 axes is `ball`"
    ),
    CatalogueKernel(
        bandpass.gabor,
        {
            "wavelength": "length",
            "theta": "angle",
            "sigma": "length",
            "gamma": "number",
            "phase": "angle",
            "truncate": "number",
            "radius": "integer",
        },
        ndim=2,
    ),
    CatalogueKernel(
        smoothing_kernels.gaussian,
        {"sigma": "lengths", "order": "integers", **_GAUSSIAN, "fwhm": "lengths"},
        one_axis=smoothing_kernels.gaussian1d,
        one_of=("sigma", "fwhm"),
    ),
    CatalogueKernel(derivative_kernels.laplace),
    CatalogueKernel(
        derivative_kernels.laplacian_of_gaussian,
        {"sigma": "lengths", **_GAUSSIAN},
        aliases=("log",),
    ),
    CatalogueKernel(textures.laws, {"vectors": "text", "normalised": "flag"}),
    CatalogueKernel(shapes.motion, {"length": "length", "angle": "angle"}, ndim=2),
    CatalogueKernel(shapes.pillbox, {"radius": "length"}, ndim=2),
    CatalogueKernel(derivative_kernels.prewitt, _AXIS),
    CatalogueKernel(derivative_kernels.scharr, {**_AXIS, "size": "integer"}),
    CatalogueKernel(bandpass.sharpen, {"sigma": "lengths", "amount": "number", **_GAUSSIAN}),
    CatalogueKernel(derivative_kernels.sobel, {**_AXIS, "size": "integer"}),
    CatalogueKernel(
        wavelet_kernels.wavelet,
        {"name": "text", "bands": "text"},
        hint=(
            ". The bands are one letter per axis, L for low-pass and H for high-pass, as in "
            "wavelet:haar,LH; wavelets are haar, db1 to db38, sym2 to sym20, coif1 to coif17 and "
            "others of PyWavelets"
        ),
    ),
)
# By names and aliases, in the order of registration.
_kernels: dict[str, CatalogueKernel] = {
    name: kernel for kernel in _BUILT_IN for name in (kernel.name, *kernel.aliases)
}


def register_kernel(
    make: Callable[..., Kernel], parameters: Mapping[str, str], *, ndim: int | None = None
) -> CatalogueKernel:
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

    Returns
    -------
    CatalogueKernel
        The kernel with its parameters.

    Raises
    ------
    ArgumentError
        If the name is taken, or a type or a parameter is unknown.

    Examples
    --------
    >>> from separable import kernels
    >>> def spike(height):
    ...     "Return one weight."
    ...     return [[height]]
    >>> register_kernel(spike, {"height": "number"}, ndim=2).description
    'one weight'
    >>> kernels.parse_spec("spike:3")
    [[3.0]]
    >>> unregister_kernel("spike")
    """
    name = make.__name__
    if name in _kernels:
        raise ArgumentError(f"`make` must have a new name; the catalogue has {name!r} already")
    for key, kind in parameters.items():
        if kind not in PARAMETER_TYPES:
            raise ArgumentError(
                f"`parameters` must have types among {', '.join(PARAMETER_TYPES)}; got {key}={kind!r}"
            )
        if key not in inspect.signature(make).parameters:
            raise ArgumentError(f"`parameters` must name parameters of {name}; got {key!r}")
    _kernels[name] = CatalogueKernel(make, dict(parameters), ndim)
    return _kernels[name]


def unregister_kernel(kernel: CatalogueKernel | str) -> None:
    """Remove a kernel that `register_kernel` added.

    Parameters
    ----------
    kernel : CatalogueKernel or str
        The kernel, or its name.

    Raises
    ------
    ArgumentError
        If it is not registered, or is one of the package.

    Examples
    --------
    >>> unregister_kernel("box")
    Traceback (most recent call last):
        ...
    separable.errors.ArgumentError: the kernel 'box' of the package cannot be removed
    """
    name = kernel if isinstance(kernel, str) else kernel.name
    if name not in _kernels:
        raise ArgumentError(f"`kernel` must be a registered kernel; got {name!r}")
    if _kernels[name] in _BUILT_IN:
        raise ArgumentError(f"the kernel {name!r} of the package cannot be removed")
    del _kernels[name]


def registered_kernels() -> tuple[CatalogueKernel, ...]:
    """Return all kernels of the catalogue, those of the package first.

    Examples
    --------
    >>> [kernel.name for kernel in registered_kernels()][:5]
    ['ball', 'binomial', 'box', 'central_difference', 'difference_of_gaussians']
    >>> registered_kernels()[2].description
    'the mean over a box, of rank 1 in any dimension'
    """
    return tuple(
        kernel for name, kernel in _kernels.items() if name == kernel.name
    )  # without aliases


def catalogue_kernel(name: str) -> CatalogueKernel:
    """Return the kernel with this name or alias.

    Raises
    ------
    ArgumentError
        If there is no such kernel; the message suggests the nearest name or lists all.
    """
    if name not in _kernels:
        raise ArgumentError(unknown_name("kernel", name, list(_kernels)))
    return _kernels[name]


def unknown_name(what: str, name: str, known: list[str]) -> str:
    """Return the message for a name that does not exist, with the nearest one that does."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"unknown {what} `{name}`. Did you mean `{close[0]}`?"
    if what == "parameter":
        return f"unknown {what} `{name}`."
    return f"unknown {what} `{name}`: there are {', '.join(sorted(known))}"
