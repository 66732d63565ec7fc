"""Rows of the comparison: a filter, our call, and the equivalent calls of other libraries.

Peers that are not installed are left out. Each makes a new result in each call, as ours does, and uses the same
number of threads: SciPy's filters use one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ipp
import numpy as np
import scipy.fft
from scipy import ndimage as scipy_ndimage
from scipy import signal

import separable as sep
from separable import get_num_threads, kernels, ndimage
from separable.engine.compiled.jit import vector_bits

RNG = np.random.default_rng(1)
REFLECT = 2  # cv2.BORDER_REFLECT: 210012..., SciPy's "reflect"
Calls = dict[str, Callable[[], Any]]


def optional(name: str) -> Any:
    """Return a module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


cv2, dip, sitk = (optional(name) for name in ("cv2", "diplib", "SimpleITK"))


def use_threads(threads: int) -> None:
    """Set the number of threads of all libraries, except those of SciPy's filters, which use one."""
    sep.set_num_threads(threads)
    if cv2 is not None:
        cv2.setNumThreads(threads)
    if dip is not None:
        dip.SetNumberOfThreads(threads)
    if sitk is not None:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes
    ----------
    key : str
        Key of its target.
    name : str
        Name with the size.
    image : array
    kernel : array or Factors
        Kernel, to compute the exact result.
    ours : callable
    peers : dict of str to callable
    passes : tuple of (int, bool)
        Taps of each pass and whether they are symmetric, for the floor.
    axes : tuple of int, optional
        Filtered axes, if not all.
    options : dict
        Options of `sep.plan` that name the same method as `ours`.
    flipped : bool
        Whether `ours` convolves; else it correlates.
    exact : bool
        Whether peers compute the same values, apart from borders and rounding.
    """

    key: str
    name: str
    image: np.ndarray
    kernel: Any
    ours: Callable[[], Any]
    peers: Calls
    passes: tuple[tuple[int, bool], ...] = ()
    axes: tuple[int, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    flipped: bool = False
    exact: bool = True


def picture(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Return noise in the range of the data type."""
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    return (RNG.random(shape, dtype=np.float32) * top).astype(dtype)


def installed(calls: dict[str, tuple[Any, Callable[[], Any]]]) -> Calls:
    """Return the calls whose module is there."""
    return {name: call for name, (module, call) in calls.items() if module is not None}


def rows(smaller: int = 1) -> Iterator[Row]:
    """Yield all rows; `smaller` divides the sizes. Arrays live only as long as their row."""
    edge, half = 4096 // smaller, 2048 // smaller
    yield from gaussians(edge)
    yield from sobel_and_single_axes(edge)
    yield gaussian_volume((256 // smaller, 512 // smaller, 512 // smaller))
    yield from dense_kernels(half)
    yield from wide_kernels(edge)
    yield colour(half)
    yield from small_images()
    yield dense_volume(192 // min(smaller, 6))


def gaussians(edge: int) -> Iterator[Row]:
    for dtype in ("float32", "uint8", "uint16", "float64"):
        x = picture((edge, edge), dtype)
        peers = installed({
            "OpenCV": (cv2, partial(_opencv_gaussian, x, 2)),
            "DIPlib": (dip, partial(_diplib_gaussian, x, 2)),
            "SciPy": (True, partial(scipy_ndimage.gaussian_filter, x, 2)),
        })  # fmt: skip
        yield Row(f"gaussian {dtype}", f"gaussian sigma 2, {edge}^2 {dtype}", x, kernels.gaussian(2),
                  partial(ndimage.gaussian_filter, x, 2), peers, ((17, True),) * 2)  # fmt: skip


def _opencv_gaussian(x: np.ndarray, sigma: float) -> Any:
    """Return OpenCV's Gaussian, truncated at four sigma as SciPy's."""
    size = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(x, (size, size), sigma, borderType=REFLECT)


def _diplib_gaussian(x: np.ndarray, sigma: float) -> Any:
    return dip.Gauss(x, sigma, truncation=4.0)


def sobel_and_single_axes(edge: int) -> Iterator[Row]:
    x = picture((edge, edge))
    yield _sobel(x, "sobel", f"Sobel, {edge}^2 float32")
    taps, one = kernels.gaussian1d(2).reshape(-1), np.ones(1)
    for axis, place in ((0, "first"), (1, "last")):
        along = (taps, one) if axis else (one, taps)  # OpenCV names the row's kernel first
        peers = installed({
            "OpenCV": (cv2, partial(_opencv_separable, x, along)),
            "SciPy": (True, partial(scipy_ndimage.gaussian_filter1d, x, 2, axis)),
        })  # fmt: skip
        yield Row(f"{place} axis", f"{place} axis only, sigma 2, {edge}^2 float32", x, taps,
                  partial(ndimage.gaussian_filter1d, x, 2, axis), peers, ((17, True),),
                  axes=(axis,))  # fmt: skip


def _sobel(x: np.ndarray, key: str, name: str, scipy: bool = True) -> Row:
    peers = installed({
        "OpenCV": (cv2, lambda: cv2.Sobel(x, cv2.CV_32F, 1, 0, ksize=3, borderType=REFLECT)),
        "SciPy": (scipy or None, partial(scipy_ndimage.sobel, x, 1)),
    })  # fmt: skip
    return Row(key, name, x, kernels.sobel(), partial(ndimage.sobel, x, 1), peers,
               ((3, True),) * 2)  # fmt: skip


def _opencv_separable(x: np.ndarray, along: tuple[np.ndarray, np.ndarray]) -> Any:
    return cv2.sepFilter2D(x, -1, *along, borderType=REFLECT)


def gaussian_volume(shape: tuple[int, ...]) -> Row:
    v = picture(shape)
    peers = installed({
        "DIPlib": (dip, partial(_diplib_gaussian, v, 2)),
        "SciPy": (True, partial(scipy_ndimage.gaussian_filter, v, 2)),
        "SimpleITK": (sitk, lambda: sitk.GetArrayViewFromImage(
            sitk.DiscreteGaussian(sitk.GetImageFromArray(v), 4.0, 17))),
    })  # fmt: skip
    name = f"gaussian sigma 2, {'x'.join(map(str, shape))} float32"
    return Row("volume", name, v, kernels.gaussian(2, ndim=3),
               partial(ndimage.gaussian_filter, v, 2), peers, ((17, True),) * 3)  # fmt: skip


def dense_kernels(edge: int) -> Iterator[Row]:
    """Yield kernels given as arrays, so that the library must find out what they are."""
    x = picture((edge, edge))
    dense = {
        "dense separable": ("31x31 separable, not told", kernels.gaussian(5, radius=15).dense()),
        "dense LoG": ("31x31 LoG", kernels.laplacian_of_gaussian(3.5, radius=15).dense()),
        "dense disk": ("disk of radius 15", kernels.disk(15) / 709.0),
    }
    for key, (name, kernel) in dense.items():
        bits, threads = vector_bits(), get_num_threads()
        peers = installed({
            "OpenCV": (cv2, lambda k=kernel: cv2.filter2D(x, -1, k, borderType=REFLECT)),
            "fftconvolve": (True, partial(_fftconvolve, x, kernel)),
            "IPP": (ipp.library(bits), lambda k=kernel: None),
        })  # fmt: skip
        if "IPP" in peers:
            peers["IPP"] = ipp.correlate(x, kernel, bits, threads)
        # The terms of the method that is chosen: two passes each.
        terms = sep.plan(kernel, x.shape, x.dtype).chosen.rank
        yield Row(key, f"{name}, {edge}^2 float32", x, kernel, partial(sep.convolve, x, kernel),
                  peers, ((31, True),) * (2 * terms), flipped=True)  # fmt: skip


def _fftconvolve(x: np.ndarray, kernel: np.ndarray) -> Any:
    with scipy.fft.set_workers(get_num_threads()):
        return signal.fftconvolve(x, kernel, "same")


def wide_kernels(edge: int) -> Iterator[Row]:
    x = picture((edge, edge))
    wide = kernels.gaussian(30)
    blur = installed({"OpenCV": (cv2, partial(_opencv_gaussian, x, 30))})
    yield Row("sigma 30", f"gaussian sigma 30, exact, {edge}^2 float32", x, wide,
              partial(ndimage.gaussian_filter, x, 30), blur, ((241, True),) * 2)  # fmt: skip
    exact = sep.plan(wide, x.shape, x.dtype)
    yield Row("sigma 30, tol", "the same, tol 1e-3", x, wide,
              partial(sep.convolve, x, wide, tol=1e-3), {"our exact": partial(exact, x)},
              options={"tol": 1e-3})  # fmt: skip
    box = installed({
        "OpenCV": (cv2, lambda: cv2.blur(x, (51, 51), borderType=REFLECT)),
        "SciPy": (True, partial(scipy_ndimage.uniform_filter, x, 51)),
    })  # fmt: skip
    yield Row("box", f"box 51x51, {edge}^2 float32", x, kernels.box(51),
              partial(ndimage.uniform_filter, x, 51), box)  # fmt: skip


def colour(edge: int) -> Row:
    x = picture((edge, edge, 3))
    blur = installed({"OpenCV": (cv2, partial(_opencv_gaussian, x, 2))})
    return Row("colour", f"gaussian sigma 2, {edge}^2 RGB float32", x, kernels.gaussian(2),
               partial(ndimage.gaussian_filter, x, 2, axes=(0, 1)), blur, ((17, True),) * 2,
               axes=(0, 1))  # fmt: skip


def small_images() -> Iterator[Row]:
    """Yield images so small that the call itself counts."""
    for edge in (64, 256, 512):
        x = picture((edge, edge))
        blur = installed({
            "OpenCV": (cv2, partial(_opencv_gaussian, x, 1)),
            "SciPy": (True, partial(scipy_ndimage.gaussian_filter, x, 1)),
        })  # fmt: skip
        yield Row(f"small gaussian {edge}", f"gaussian sigma 1, {edge}^2 float32", x,
                  kernels.gaussian(1), partial(ndimage.gaussian_filter, x, 1), blur)  # fmt: skip
        yield _sobel(x, f"small sobel {edge}", f"Sobel, {edge}^2 float32")


def dense_volume(edge: int) -> Row:
    cube, kernel = picture((edge,) * 3), kernels.gaussian(1.6, ndim=3, radius=5).dense()
    best = installed(
        {"DIPlib": (dip, lambda: dip.Convolution(cube, kernel.astype("f4"), method="best"))}
    )
    return Row("dense volume", f"11^3 separable, not told, {edge}^3 float32", cube, kernel,
               partial(sep.convolve, cube, kernel), best, ((11, True),) * 3, flipped=True)  # fmt: skip


def error_of(row: Row, result: Any, border: bool) -> float:
    """Return the largest error in one corner or, for other border modes, in a part within the image.

    It is relative to ``max|input| * sum|kernel|``. The exact result is computed in float64.
    """
    dense = row.kernel.dense() if isinstance(row.kernel, sep.Factors) else np.asarray(row.kernel)
    axes = row.axes or tuple(range(row.image.ndim))
    reach = dict(zip(axes, dense.shape, strict=True))
    corner = tuple(slice(0, 2 * reach.get(a, 1) + 40) for a in range(row.image.ndim))
    first = {a: 0 if border else reach.get(a, 1) // 2 for a in range(row.image.ndim)}
    inner = tuple(
        slice(first[a], min(reach.get(a, 1) + 40, row.image.shape[a] - first[a]))
        for a in range(row.image.ndim)
    )
    part = row.image[corner].astype(np.float64)
    operation = sep.convolve if row.flipped else sep.correlate
    exact = operation(part, dense, axes=axes, method="fft")[inner]
    scale = float(np.max(np.abs(part))) * float(np.sum(np.abs(dense)))
    return float(np.max(np.abs(np.asarray(result)[inner] - exact))) / scale
