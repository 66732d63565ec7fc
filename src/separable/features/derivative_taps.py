"""One-dimensional derivatives of a Gaussian, in the forms that features are defined with.

Three forms of the derivative of order 0, 1 or 2, all as taps for correlation:

- `SAMPLED`: the derivative of the Gaussian at the samples, cut at 4 sigma, as in `scipy.ndimage.gaussian_filter`;
- `COMPOSED`: two steps of ``sigma / sqrt(2)``, each with a sampled derivative of order 0 or 1, as in
  scikit-image's ``hessian_matrix(use_gaussian_derivatives=True)`` and its ridge filters. The second derivative of a
  parabola is then exact for smaller sigmas than that of `SAMPLED`;
- `DIFFERENCES`: a sampled Gaussian and central differences, as in ``use_gaussian_derivatives=False``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.kernels import gaussian1d

__all__ = ["COMPOSED", "DIFFERENCES", "SAMPLED", "DerivativeForm", "axis_taps"]

Array = NDArray[Any]

CUT = 1e-6  # of the sum of the absolute taps: the two tails that are cut off
WIDE = 8.0  # sigmas from the centre to the end of taps before they are cut
SQRT2 = math.sqrt(2.0)


@dataclass(frozen=True)
class DerivativeForm:
    """A way to differentiate along one axis.

    Attributes
    ----------
    name : str
        Name for messages.
    least : float
        Smallest sigma in samples: below it, the derivative of a ramp of slope 1 is less than 0.5.
    """

    name: str
    least: float

    def taps(self, sigma: float) -> list[Array]:
        """Return the taps of the derivatives of orders 0, 1 and 2, of one odd length, per sample."""
        raise NotImplementedError


class _Sampled(DerivativeForm):
    def taps(self, sigma: float) -> list[Array]:
        return [np.asarray(gaussian1d(sigma, order=order)) for order in range(3)]


class _Composed(DerivativeForm):
    def taps(self, sigma: float) -> list[Array]:
        narrow = sigma / SQRT2
        radius = int(WIDE * narrow + 0.5) + 2
        smooth, slope = (gaussian1d(narrow, order=order, radius=radius) for order in (0, 1))
        # Correlating with a and then with b is correlating with their convolution.
        pairs = ((smooth, smooth), (slope, smooth), (slope, slope))
        return _cut([np.convolve(a, b) for a, b in pairs])


class _Differences(DerivativeForm):
    def taps(self, sigma: float) -> list[Array]:
        smooth = np.asarray(gaussian1d(sigma))
        central = np.array((-0.5, 0.0, 0.5))
        first = np.pad(np.convolve(smooth, central), 1)
        return [np.pad(smooth, 2), first, np.convolve(np.convolve(smooth, central), central)]


SAMPLED = _Sampled("sampled derivatives of a Gaussian", 0.42)
COMPOSED = _Composed("derivatives of a Gaussian in two steps", 0.6)
DIFFERENCES = _Differences("differences of a smoothed image", 0.0)


def axis_taps(form: DerivativeForm, sigma: float, step: float) -> list[Array]:
    """Return the taps of orders 0, 1 and 2 per unit of length.

    Parameters
    ----------
    form : DerivativeForm
    sigma : float
        Standard deviation, in the unit of `step`.
    step : float
        Distance between neighbouring samples.

    Raises
    ------
    ArgumentError
        If sigma is so small that the samples of the derivative say nothing.

    Examples
    --------
    >>> smooth, slope, curvature = axis_taps(SAMPLED, 2.0, 1.0)
    >>> x = np.arange(-8, 9)
    >>> round(float(smooth.sum()), 6), round(float(slope @ x), 3), round(float(curvature @ x**2), 2)
    (1.0, 1.0, 1.99)
    """
    samples = sigma / step
    if samples < form.least:
        raise ArgumentError(
            f"`sigma` must be at least {form.least} samples for {form.name}; got {sigma:g}, which is "
            f"{samples:g} samples {step:g} apart. Take a larger sigma, or "
            "use_gaussian_derivatives=False where it is offered"
        )
    return [taps / step**order for order, taps in enumerate(form.taps(samples))]


def _cut(taps: list[Array]) -> list[Array]:
    """Cut the tails of all taps at one radius, such that no more than `CUT` of any of them is lost."""
    radius = len(taps[0]) // 2
    tails = [np.cumsum(np.abs(t[: radius + 1]) + np.abs(t[radius:][::-1])) for t in taps]
    lost = min(
        int(np.searchsorted(tail, CUT * np.abs(t).sum()))
        for tail, t in zip(tails, taps, strict=True)
    )
    lost = min(lost, radius - 1)
    kept = [t[lost : t.size - lost] for t in taps]
    return [kept[0] / kept[0].sum(), *kept[1:]]
