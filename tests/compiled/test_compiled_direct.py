"""Direct dense correlation against a slow reference."""

import numpy as np
import pytest
from compiled_oracle import MODES, awkward, border, correlate_dense, samples

from separable.engine.compiled import tiling

HOW = ["plain", "offset", "fortran", "reversed", "strided", "padded"]


def reference(image, kernel, axes, borders, cval):
    x = np.moveaxis(image.astype(float), axes, (0, 1))
    padded = x[np.ix_(np.maximum(borders[0], 0), np.maximum(borders[1], 0))]
    padded[borders[0] < 0] = cval
    padded[:, borders[1] < 0] = cval
    n, m = x.shape[:2]
    total = sum(k * padded[i : i + n, j : j + m] for (i, j), k in np.ndenumerate(kernel))
    return np.moveaxis(total, (0, 1), axes)


def check(image, kernel, axes, lefts, mode, cval, work, threads=1, out=None):
    borders = [
        border(image.shape[a], k, left, mode)
        for a, k, left in zip(axes, kernel.shape, lefts, strict=True)
    ]
    out = np.full(image.shape, np.nan, work) if out is None else out
    correlate_dense(image, out, kernel, axes, lefts, borders, cval, work, threads)
    expected = reference(image, kernel, axes, borders, cval)
    most = max(np.abs(image.astype(float)).max(), abs(cval)) * np.abs(kernel).sum()
    if out.dtype.kind != "f":
        info = np.iinfo(out.dtype)
        assert np.abs(out - np.clip(expected, info.min, info.max)).max() <= 0.5 + 1e-6 * most
    else:
        assert np.abs(out - expected).max() <= {"float32": 1e-6, "float64": 1e-13}[work] * most
    return out


@pytest.mark.parametrize("work", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("taps", [(1, 1), (3, 3), (5, 5), (2, 7), (7, 4), (15, 15), (1, 9), (9, 1)])
def test_kernels(taps, mode, work):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=taps)
    for shape in ((1, 1), (5, 3), (40, 70), (133, 300)):
        image = rng.normal(size=shape).astype(work)
        check(image, kernel, (0, 1), (taps[0] // 2, taps[1] // 2), mode, 1.5, work)
        check(image, kernel, (0, 1), (0, taps[1] - 1), mode, 1.5, work, 2)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("how_out", HOW)
def test_layouts(how, how_out):
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(3, 5))
    for shape, axes in (
        ((37, 53), (0, 1)),
        ((20, 34, 3), (0, 1)),
        ((9, 20, 40), (0, 1)),
        ((4, 20, 34), (1, 2)),
    ):
        image = awkward(rng.normal(size=shape), how)
        out = awkward(np.full(shape, np.nan), how_out)
        check(image, kernel, axes, (1, 2), "mirror", 0, "float64", 2, out)


def test_dtypes_and_bits(monkeypatch):
    rng = np.random.default_rng(2)
    kernel = rng.random((5, 5)) / 25
    for dtype in ("uint8", "int16", "uint16"):
        image = samples(rng, (150, 200), dtype)
        first = check(
            image, kernel, (0, 1), (2, 2), "reflect", 0, "float32", 1, np.zeros_like(image)
        )
        for threads, band, tile in ((2, 16, 32), (3, 64, 256)):
            monkeypatch.setattr(tiling, "BAND_ROWS", band)
            monkeypatch.setattr(tiling, "TILE_COLUMNS", tile)
            again = check(
                image,
                kernel,
                (0, 1),
                (2, 2),
                "reflect",
                0,
                "float32",
                threads,
                np.zeros_like(image),
            )
            assert np.array_equal(first, again)
