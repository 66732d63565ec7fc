"""What the widget does, without a viewer: data and settings -> a new layer, or the plan's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from separable.borders import registered
from separable.errors import ArgumentError, ArgumentTypeError
from separable.factors import Factors
from separable.filtering import filter_with
from separable.kernels import Kernel, parse_spec
from separable.kernels.kernel_arguments import mirrored
from separable.kernels.parse import lengths_of
from separable.kernels.units import unit_of
from separable.plan import plan

__all__ = ["AXES", "LayerData", "Settings", "explained", "filtered", "mode_choices"]

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]  # napari's LayerDataTuple

AXES = {"all axes": 0, "the last two": 2, "the last three": 3}
# Where a layer lies and what its axes are; a new layer of the same shape lies there too.
KEPT = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels", "rgb")


@dataclass(frozen=True)
class Settings:
    """What is set in the widget.

    Attributes
    ----------
    kernel : str
        A name of the catalogue, as ``gaussian``, to which `sigma` is added where it has one; or
        with its parameters, as ``gabor:8,theta=45deg``, ``gaussian:2um`` or ``gaussian:3px``.
    sigma : float
        In the units of the layer's scale.
    mode : str
        The border mode: one of `mode_choices()`.
    axes : str
        One of `AXES`: which axes of the layer are filtered, colour never.
    """

    kernel: str = "gaussian"
    sigma: float = 1.0
    mode: str = "reflect"
    axes: str = "all axes"

    @property
    def text(self) -> str:
        """The kernel with its parameters."""
        name = self.kernel.strip()
        if ":" in name or "sigma" not in lengths_of(name):
            return name
        return f"{name}:sigma={self.sigma:g}" if name == "gabor" else f"{name}:{self.sigma:g}"


def mode_choices() -> tuple[str, ...]:
    """Return the names of the border modes that are registered now."""
    return tuple(border.name for border in registered())


def filtered(data: Any, settings: Settings, attributes: Mapping[str, Any]) -> LayerData:
    """Filter the data of an image layer and make the layer that shows the result.

    Parameters
    ----------
    data : array_like
        Colours last, where `attributes` says ``rgb``; the first level of a multiscale layer.
    settings : Settings
    attributes : mapping
        Of the layer, as napari names them: ``scale``, ``translate``, ``units``, ``rgb`` ...

    Returns
    -------
    tuple
        The data, the attributes of the new layer and ``"image"``. Whole numbers become float32
        where the kernel has negative weights, so that slopes keep their signs.

    Raises
    ------
    SeparableError
        Its subclasses, if the kernel or the data are not right.

    Examples
    --------
    >>> step = np.zeros((4, 6), np.uint8)
    >>> step[:, 3:] = 10
    >>> data, attributes, _ = filtered(step, Settings("sobel"), {"scale": (1, 2)})
    >>> data[1].tolist(), data.dtype, attributes["scale"]
    ([0.0, 0.0, 20.0, 20.0, 0.0, 0.0], dtype('float32'), (1, 2))
    """
    array = _array(data)
    kernel, axes = _kernel(array, settings, attributes)
    dense = kernel.dense() if isinstance(kernel, Factors) else kernel
    signed = array.dtype.kind in "biu" and bool((dense < 0).any())
    result = filter_with(
        array, kernel, np.float32 if signed else None, operation="correlate", axes=axes,
        mode=settings.mode,
    )  # fmt: skip
    kept = {k: attributes[k] for k in KEPT if attributes.get(k) is not None}
    if kept.get("rgb") and signed:
        raise ArgumentError(
            f"kernel `{settings.text}` gives numbers below 0, which no colour image shows. Split "
            "the layer into channels first"
        )
    name = attributes.get("name")
    return result, {**kept, "name": f"{name} {settings.text}" if name else settings.text}, "image"


def explained(data: Any, settings: Settings, attributes: Mapping[str, Any]) -> str:
    """Return the text of the plan, or what is wrong with the settings.

    Examples
    --------
    >>> text = explained(np.zeros((64, 64)), Settings("gaussian", 2), {"scale": (1, 0.5)})
    >>> text.splitlines()[0]
    'correlate 17x33 on 64x64 float64, reflect, exact, ... threads'
    >>> explained(np.zeros((64, 64)), Settings("gausian"), {})
    'unknown kernel `gausian`. Did you mean `gaussian`?'
    """
    try:
        array = _array(data)
        kernel, axes = _kernel(array, settings, attributes)
        return str(
            plan(
                kernel, array.shape, array.dtype, axes=axes, mode=settings.mode,
                operation="correlate",
            )
        )  # fmt: skip
    except (ArgumentError, ArgumentTypeError) as mistake:
        return str(mistake)


def _array(data: Any) -> Any:
    """The finest level of a multiscale layer; else the data."""
    if isinstance(data, (list, tuple)) or type(data).__name__ == "MultiScaleData":
        return data[0]
    return data if hasattr(data, "dtype") and hasattr(data, "shape") else np.asarray(data)


def _kernel(
    array: Any, settings: Settings, attributes: Mapping[str, Any]
) -> tuple[Kernel, tuple[int, ...]]:
    """The kernel in samples, and the axes that it runs along."""
    ndim = array.ndim - bool(attributes.get("rgb"))  # colours come last and have no scale
    if settings.axes not in AXES:
        raise ArgumentError(f"`axes` must be one of {', '.join(AXES)}; got {settings.axes!r}")
    count = AXES[settings.axes] or ndim
    if count > ndim:
        raise ArgumentError(
            f"`axes` must be axes of the layer, which has {ndim}; got {settings.axes!r}"
        )
    axes = tuple(range(ndim - count, ndim))
    scale = np.asarray(attributes.get("scale", (1.0,) * ndim), float)[-count:]
    units: Any = attributes.get("units") or ()
    unit = unit_of(str(units[-1])) if len(units) else ""
    # A layer in pixels, as one without metadata is, may have a scale all the same.
    kernel = parse_spec(
        settings.text, count, spacing=abs(scale).tolist(), unit="" if unit == "px" else unit
    )
    return mirrored(kernel, [k for k in range(count) if scale[k] < 0]), axes
