"""Filters in place and of several sweeps run slab by slab: the same results, in little memory."""

import subprocess
import sys

import numpy as np
import pytest
from compiled_oracle import MODES, border, correlate_dense, correlate_terms, samples, taps
from compiled_oracle import reference as exact_terms

import separable as sep
from separable import ndimage
from separable.engine.compiled import slabs

pytestmark = pytest.mark.widths

RNG = np.random.default_rng(7)
FILTERS = {
    "gaussian": lambda x, **o: ndimage.gaussian_filter(x, 1.5, **o),
    "log": lambda x, **o: sep.correlate(x, LOG[x.ndim], method="fused", **o),
    "dense": lambda x, **o: sep.correlate(x, DENSE[x.ndim], method="dense", **o),
    "box": lambda x, **o: sep.correlate(x, BOX[x.ndim], method="box", **o),
    "recursion": lambda x, **o: sep.correlate(x, WIDE[x.ndim], method="recursive", tol=1e-3, **o),
    "one axis": lambda x, **o: ndimage.gaussian_filter1d(x, 2, axis=0, **o),
    "last axis": lambda x, **o: ndimage.gaussian_filter1d(x, 2, axis=-1, **o),
    "nested": lambda x, **o: sep.correlate(x, DENSE[x.ndim], method="nested", **o),
}
LOG = {n: sep.kernels.laplacian_of_gaussian(1.0, ndim=n) for n in (2, 3)}
DENSE = {n: RNG.normal(size=(3, 5, 4)[:n]) for n in (2, 3)}
BOX = {n: np.ones((5, 4, 7)[:n]) / np.prod((5, 4, 7)[:n]) for n in (2, 3)}
WIDE = {n: sep.kernels.gaussian(3.0, ndim=n) for n in (2, 3)}


@pytest.fixture(params=[1, 60_000, 1 << 30])
def slab_bytes(request, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_BYTES", request.param)
    return request.param


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("mode", ["reflect", "constant", "wrap"])
def test_in_place(name, mode, slab_bytes):
    for shape in ((60, 70), (14, 30, 50), (40, 9, 3)):
        for kind in ("float32", "uint8"):
            image = samples(RNG, shape, kind)
            most = np.abs(image.astype("f8")).max()
            expected = FILTERS[name](image, mode=mode)
            result = FILTERS[name](image, mode=mode, output=image)
            assert result is image
            if name == "recursion" or (name == "box" and kind != "uint8"):
                # Pieces of a recursion, and sums begun elsewhere, are rounded otherwise.
                limit = 1 if kind == "uint8" else (1e-4 if name == "recursion" else 1e-6) * most
                assert np.abs(result.astype("f8") - expected).max() <= limit
            else:
                np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("kind", ["complex64", "complex128"])
def test_complex_in_place(kind, slab_bytes):
    image = (RNG.normal(size=(40, 50)) + 1j * RNG.normal(size=(40, 50))).astype(kind)
    for kernel in (DENSE[2], DENSE[2] + 2j, BOX[2]):
        for cval in (0, 1 + 2j):
            options = {"mode": "constant", "cval": cval}
            again = image.copy()
            expected = sep.correlate(image, kernel, **options)
            assert sep.correlate(again, kernel, output=again, **options) is again
            np.testing.assert_allclose(again, expected, atol=1e-5 if kind == "complex64" else 1e-13)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "float64"])
@pytest.mark.parametrize("name", ["box", "recursion"])
def test_lines_into_another_type(name, kind, slab_bytes):
    for mode in MODES:
        for shape in ((20, 40, 50), (9, 70, 36)):
            image = samples(RNG, shape, "uint8")
            got = FILTERS[name](image, mode=mode, output=kind)
            exact = sep.correlate(
                image.astype("f8"), (BOX if name == "box" else WIDE)[3], mode=mode, method="fused"
            )
            limit = 0.3 if name == "recursion" else 1e-3
            assert np.abs(got - exact).max() <= limit + (kind != "float64") * 0.5


@pytest.mark.parametrize("work", ["float32", "float64"])
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 3, 4)])
def test_more_axes_than_one_sweep_filters(axes, terms, work, slab_bytes):
    shape = (4, 5, 6, 7, 9)[: max(4, axes[-1] + 1)]
    for mode in ("reflect", "constant", "wrap"):
        image = RNG.normal(size=shape).astype(work)
        products = [[taps(RNG, 3, "general") for _ in axes] for _ in range(terms)]
        borders = [border(shape[a], 3, 1, mode) for a in axes]
        expected = exact_terms(image, products, axes, [1] * len(axes), borders, 2.0)
        most = np.abs(expected).max() * 50
        for threads in (1, 2):
            out = np.full(shape, np.nan, work)
            correlate_terms(
                image, out, products, axes, [1] * len(axes), borders, 2.0, work, threads
            )
            assert np.abs(out - expected).max() <= (1e-6 if work == "float32" else 1e-14) * most
        again = image.copy()
        correlate_terms(again, again, products, axes, [1] * len(axes), borders, 2.0, work)
        np.testing.assert_allclose(again, out, atol=1e-6 if work == "float32" else 1e-13)


def test_dense_kernels_do_not_read_what_is_overwritten():
    kernel = RNG.normal(size=(9, 3))
    for shape in ((50, 40), (3, 40), (40, 2)):
        for mode in MODES:
            image = RNG.normal(size=shape)
            borders = [border(n, k, k // 2, mode) for n, k in zip(shape, kernel.shape, strict=True)]
            out = np.empty(shape)
            correlate_dense(image, out, kernel, (0, 1), (4, 1), borders, 1.0, "float64")
            correlate_dense(image, image, kernel, (0, 1), (4, 1), borders, 1.0, "float64")
            np.testing.assert_array_equal(image, out)


MEASURED = """
import numpy as np, separable as sep
from separable import ndimage
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
def run(v, out):
    {call}
small = np.ones([n // 4 for n in {shape}], "{dtype}")
run(small, small if {in_place} else small.copy())
image = np.ones({shape}, "{dtype}")
out = image if {in_place} else np.ones_like(image)
before = peak()
run(image, out)
print((peak() - before) / 1024)
"""
CALLS = {
    "in place": "ndimage.gaussian_filter(v, 2, output=out)",
    "box": "ndimage.uniform_filter(v, 9, output=out)",
    "recursion": (
        "sep.correlate(v, sep.kernels.gaussian(4, ndim=3), tol=1e-3, method='recursive', output=out)"
    ),
    "four axes": "ndimage.gaussian_filter(v, 1, output=out)",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "shape", "dtype", "in_place"),
    [
        ("in place", (128, 384, 384), "float32", True),
        ("in place", (128, 384, 384), "uint8", True),
        ("box", (128, 384, 384), "uint8", False),
        ("recursion", (128, 384, 384), "uint8", False),
        ("four axes", (12, 40, 180, 200), "uint8", False),
    ],
)
def test_memory_beyond_image_and_result_is_below_64_mib(name, shape, dtype, in_place):
    """Whole intermediate arrays of these shapes take 66 MiB and more."""
    code = MEASURED.format(call=CALLS[name], shape=shape, dtype=dtype, in_place=in_place)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60
