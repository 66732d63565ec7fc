"""Features of Dask arrays, computed lazily and block by block, with the results of arrays in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from separable.errors import DTypeError
from separable.features.feature_base import Feature
from separable.features.feature_blocks import FeatureFilter, feature_filter
from separable.features.feature_files import maxima_from
from separable.features.feature_run import FeatureOptions, check_count
from separable.request import check_axes, check_spacing
from separable.volumes.dask_arrays import check_blocks, filter_blocks, with_mask

__all__ = ["compute_lazily"]


def compute_lazily(feature: Feature, image: Any, options: FeatureOptions) -> Any:
    """Return the results of a feature of a Dask array; parameters are those of `feature_run.compute`.

    Maxima over the whole array (of Frangi's filter without `gamma`, and of Meijering's) are tasks before
    the others.

    Returns
    -------
    dask.array.Array, shape (results, *image.shape)

    Examples
    --------
    >>> import dask.array as da
    >>> from separable.features.feature_values import GradientMagnitude
    >>> compute_lazily(GradientMagnitude(1.0), da.ones((9, 9), chunks=4), FeatureOptions()).shape
    (1, 9, 9)
    """
    import dask.array  # optional

    array: Any = dask.array
    check_blocks(image)
    if image.dtype.kind == "c":
        raise DTypeError(
            f"`image` must be real; got {image.dtype}. Take features of its real and imaginary parts"
        )
    axes = check_axes(options.axes, image.ndim)
    check_count(feature, len(axes))
    missing = dict(options.missing or {})
    masked = isinstance(image._meta, np.ma.MaskedArray)
    filters = feature_filter(
        [(feature.name, feature)], image.shape, image.dtype, axes,
        check_spacing(options.spacing, len(axes)), {**missing, **({"mask": None} if masked else {})},
        mode=options.mode, cval=options.cval, threads=options.threads,
    )  # fmt: skip
    source = image
    if "mask" in missing or masked:
        source = with_mask(image, missing.get("mask"), axes)
    bound = None
    if filters.needs_maxima:
        bound = (_bound, _maxima(source, filters, options.threads))
        filters = filters.with_maxima(_unknown(filters))
    result = filter_blocks(source, filters, options.threads, bound)
    return array.stack([result[name] for name in filters.names])


def _unknown(filters: FeatureFilter) -> tuple[tuple[float, ...], ...]:
    """Return zeros in place of the maxima."""
    return tuple(
        tuple(0.0 for _ in feature.reductions(filters.grid)) for _, feature in filters.features
    )


def _bound(filters: FeatureFilter, maxima: Any) -> FeatureFilter:
    return filters.with_maxima(maxima)


def _maxima(source: Any, filters: FeatureFilter, threads: int | None) -> Any:
    """Return the maxima over the array as a delayed value."""
    from dask import delayed  # optional

    late: Any = delayed
    own = filters.with_maxima(None)
    blocks = filter_blocks(source, own, threads).to_delayed().ravel().tolist()
    peaks = [late(_peaks)(block) for block in blocks]
    return late(_largest)(own, peaks)


def _peaks(block: Any) -> dict[str, float]:
    """Return the maxima that a block contains."""
    return {name: float(np.max(block[name], initial=0)) for name in block.dtype.names}


def _largest(filters: FeatureFilter, peaks: list[dict[str, float]]) -> Any:
    most = {name: max(peak[name] for peak in peaks) for name in filters.names}
    return maxima_from(filters, most)
