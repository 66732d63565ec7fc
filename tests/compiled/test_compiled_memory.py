"""No read or write outside the arrays; no value from uninitialised scratch memory."""

import ctypes
import mmap

import numpy as np
import pytest
from compiled_oracle import MODES, border, correlate_dense, correlate_terms, samples

from separable.engine.compiled import thread_pool as pool

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """An array that ends (or begins) exactly at a page that cannot be touched."""

    def __init__(self, shape, dtype, at_end):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pages = -(-size // PAGE)
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        for page in (0, pages + 1):
            assert _libc.mprotect(ctypes.c_void_p(base + page * PAGE), PAGE, 0) == 0
        start = PAGE + (pages * PAGE - size if at_end else 0)
        self.array = np.ndarray(shape, dtype, buffer=self.map, offset=start)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    "dtype", ["uint8", "float32", pytest.param("float64", marks=pytest.mark.widths)]
)
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (64, 64), (33, 130), (20, 18, 40), (17, 33, 3)])
def test_guard_pages(shape, dtype, at_end):
    rng = np.random.default_rng(0)
    image = Guarded(shape, dtype, at_end).array
    out = Guarded(shape, dtype, at_end).array
    image[...] = samples(rng, shape, dtype)
    axes = (0, 1, 2) if shape[-1] == 40 else (0, 1)
    for mode in MODES:
        for count in (1, 4, 17, 70):
            terms = [[np.ones(count)] * len(axes)]
            borders = [border(shape[a], count, count // 2, mode) for a in axes]
            correlate_terms(
                image, out, terms, axes, [count // 2] * len(axes), borders, 1.0, threads=2
            )
    del image, out


@pytest.fixture
def poisoned(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)


@pytest.mark.usefixtures("poisoned")
def test_poisoned_scratch():
    import test_compiled_fused

    for mode in MODES:
        for shape in test_compiled_fused.SHAPES:
            test_compiled_fused.test_shapes(shape, mode)
        test_compiled_fused.test_sums_of_terms(3, mode)
    for shape in ((4, 18, 19, 3), (3, 12, 5, 40)):
        for axes in test_compiled_fused.AXES:
            test_compiled_fused.test_axes(shape, axes)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (64, 64), (33, 130)])
def test_guard_pages_dense(shape, dtype, at_end):
    rng = np.random.default_rng(0)
    image = Guarded(shape, dtype, at_end).array
    out = Guarded(shape, dtype, at_end).array
    image[...] = samples(rng, shape, dtype)
    for mode in MODES:
        for count in (1, 4, 7, 15):
            kernel = np.ones((count, count))
            borders = [border(n, count, count // 2, mode) for n in shape]
            correlate_dense(image, out, kernel, (0, 1), [count // 2] * 2, borders, 1.0, threads=2)
            assert np.isfinite(out).all()
