"""Outputs of a region of pictures with an opacity, which weights the colours as `separable.masked.opacity` defines it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import OUTSIDE
from separable.masked import (
    MissingOptions,
    Opacity,
    OpacityWeights,
    nodata_values,
    valid_pixels,
    weigh_pixels,
)
from separable.resample.region_blocks import RegionBlock
from separable.resample.region_plans import RegionPlan
from separable.resample.valid_regions import RegionRun

__all__ = ["run_with_opacity"]

Array = NDArray[Any]


def run_with_opacity(
    planned: RegionPlan,
    image: Array,
    opacity: Opacity,
    kernel: Any,
    missing: MissingOptions | None = None,
    block: RegionBlock | None = None,
) -> Array:
    """Filter colours weighted by their opacity, and the opacity, at the outputs of a region.

    Parameters
    ----------
    planned : RegionPlan
        Plan for the whole image, as for samples without opacity.
    image : ndarray
        The image, or the samples of a block with all colours.
    opacity : Opacity
    kernel : array_like or Factors
        Kernel as given.
    missing : MissingOptions, optional
        Its mask has the shape of `image`, or of the filtered axes.
    block : RegionBlock, optional
        The outputs to compute; by default all.

    Returns
    -------
    ndarray
        Colours and opacity at the outputs.

    Examples
    --------
    A red pixel beside transparent ones: the red spreads, and nothing of the colour below.

    >>> from separable.resample import plan_region
    >>> line = np.array([[[200, 255], [9, 0], [9, 0]]], "uint8")
    >>> p = plan_region([1/3, 1/3, 1/3], line.shape, "uint8", axes=1, stride=2)
    >>> run_with_opacity(p, line, Opacity(2, 1), [1/3, 1/3, 1/3]).tolist()
    [[[200, 170], [0, 0]]]
    """
    axes = planned.axes if block is None else block.axes
    problem = planned.whole.problem
    options = MissingOptions() if missing is None else missing
    options = options._replace(nodata=nodata_values(options.nodata))
    valid = valid_pixels(image, opacity, problem.axes, options)
    rule = OpacityWeights.of(kernel, image.dtype, opacity.premultiplied)
    # The opacity of the image where the outputs lie; a constant outside of it is opaque.
    own = np.take(image, [opacity.index], opacity.axis).astype(rule.work)
    for one, border in zip(axes, problem.modes, strict=True):
        stop = one.first + (one.size - 1) * one.stride + 1
        places = one.samples(border, one.first, stop)[:: one.stride]
        own = np.take(own, np.where(places == OUTSIDE, 0, places), one.axis)
        own[(slice(None),) * one.axis + (places == OUTSIDE,)] = rule.full
    run = RegionRun(planned, tuple(axes))
    return weigh_pixels(image, opacity, rule, run, problem.out, valid=valid, own=own)
