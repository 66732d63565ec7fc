"""Resample images and volumes: other shapes, other spacings, pyramids.

Along each axis a result is a banded matrix times the samples: interpolation, the filter against aliasing and the
border are its weights. So resampling is one pass per axis, and results are rounded once, at the end. ``docs/resampling.md``
compares the conventions of SciPy, PyTorch, OpenCV and scikit-image.

Examples
--------
>>> import numpy as np
>>> from separable import resample
>>> resample.resize(np.array([0.0, 4.0]), 4)
array([0., 1., 3., 4.])
>>> resample.resample(np.zeros((20, 64, 64), "float32"), spacing_in=(3, 0.5, 0.5), spacing_out=1).shape
(60, 32, 32)
"""

from separable.resample.interpolations import (
    Interpolation,
    interpolation_names,
    keys_cubic,
    lanczos,
    registered_interpolations,
    spline,
)
from separable.resample.pyramids import downsample, pyramid
from separable.resample.region_plans import RegionPlan, plan_region
from separable.resample.resampling_plans import (
    PyramidPlan,
    ResamplingPlan,
    plan_downsample,
    plan_pyramid,
    plan_resample,
    plan_rescale,
    plan_resize,
)
from separable.resample.resizing import resample, rescale, resize

__all__ = [
    "Interpolation",
    "PyramidPlan",
    "RegionPlan",
    "ResamplingPlan",
    "downsample",
    "interpolation_names",
    "keys_cubic",
    "lanczos",
    "plan_downsample",
    "plan_pyramid",
    "plan_region",
    "plan_resample",
    "plan_rescale",
    "plan_resize",
    "pyramid",
    "registered_interpolations",
    "resample",
    "rescale",
    "resize",
    "spline",
]
