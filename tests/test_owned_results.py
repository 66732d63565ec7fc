"""Results are ordinary arrays: each owns its memory, on both sides of every threshold of the kept blocks."""

from __future__ import annotations

import io
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import ndimage, resample
from separable.engine import METHODS, result_memory
from separable.engine.availability import available
from separable.filter_bank import wavelet_step
from separable.kernels import gaussian

Array = np.ndarray[Any, Any]
Make = Callable[[Array], Array]

LINE = np.ones(9) / 9
LIMIT = 3 * result_memory.LARGE
SIZES = {
    "below the blocks": result_memory.LARGE - 4,
    "the first block": result_memory.LARGE,
    "a block and a bit": result_memory.LARGE + 4096,
    "more than may wait": LIMIT + result_memory.HUGE_PAGE,
}
"""Bytes of a result, from the constants of the module: a changed threshold is tested still."""


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the engine if there is one, for blocks are used from then on, and let few bytes wait."""
    if available():
        import separable.engine.compiled.jit  # noqa: F401

    result_memory.release()
    monkeypatch.setenv("SEPARABLE_KEEP_BYTES", str(LIMIT))


def image_of(size: int, dtype: str = "float32") -> Array:
    """Return an image of about so many bytes, and at least as many."""
    count = size // np.dtype(dtype).itemsize
    rows = 128
    values = np.random.default_rng(0).integers(1, 200, (rows, math.ceil(count / rows)))
    return values.astype(dtype)


def by_method(name: str) -> Make:
    """Return the filter by one method, with the first kernel that it takes."""

    def run(image: Array) -> Array:
        for kernel in (gaussian(1, ndim=2), np.full((9, 9), 1 / 81), gaussian(6, ndim=2)):
            made = sep.plan(kernel, image.shape, image.dtype, tol=1e-2)
            for found in made.candidates:
                if found.method == name and not found.refused:
                    return replace(made, chosen=found)(image)
        return sep.convolve(image, np.ones((3, 3)) / 9, method=name)

    return run


def banked(image: Array) -> Array:
    return sep.bank(["gaussian:1", "gaussian:2", "log:1"], image.shape, image.dtype)(image)


def dask_result(image: Array) -> Array:
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(image, chunks=image.shape)
    found: Array = sep.convolve(lazy, gaussian(1, ndim=2)).compute(scheduler="synchronous")
    return found


def dask_blocks(image: Array) -> Array:
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(np.concatenate([image, image]), chunks=image.shape)
    parts = sep.convolve(lazy, gaussian(1, ndim=2)).to_delayed().ravel()
    found: Array = parts[0].compute(scheduler="synchronous")
    return found


def data_array(image: Array) -> Array:
    xr = pytest.importorskip("xarray")
    import separable.xarray_accessor  # noqa: F401

    found: Array = xr.DataArray(image, dims=("y", "x")).separable.gaussian(1.0).data
    return found


def valid(image: Array) -> Array:
    mask = np.ones(image.shape, bool)
    mask[3:9, 3:9] = False
    return sep.convolve(image, gaussian(1, ndim=2), mask=mask, fill=0)


def valid_signed(image: Array) -> Array:
    mask = np.ones(image.shape, bool)
    mask[3:9, 3:9] = False
    return sep.correlate(image, sep.kernels.sobel(ndim=2), mask=mask, fill=0)


def wavelet(image: Array) -> Array:
    doubled = np.concatenate([image, image, image, image])
    return next(iter(wavelet_step(doubled, "haar").values()))


OPERATORS: dict[str, Make] = {
    **{f"method {name}": by_method(name) for name in METHODS if name != "reference"},
    "convolve": lambda x: sep.convolve(x, gaussian(1, ndim=2)),
    "correlate": lambda x: sep.correlate(x, gaussian(1, ndim=2)),
    "other dtype": lambda x: sep.convolve(x, gaussian(1, ndim=2), output="float64"),
    "one axis": lambda x: sep.convolve(x, LINE, axes=0),
    "transposed": lambda x: sep.convolve(x.T, gaussian(1, ndim=2)),
    "plan": lambda x: sep.plan(gaussian(1, ndim=2), x.shape, x.dtype)(x),
    "bank": banked,
    "wavelet": wavelet,
    "mask": valid,
    "mask, signed": valid_signed,
    "dask": dask_result,
    "dask, a block": dask_blocks,
    "xarray": data_array,
    "resize": lambda x: resample.resize(x, (2 * x.shape[0], x.shape[1])),
    "resize, transposed": lambda x: resample.resize(x.T, (x.shape[1], 2 * x.shape[0])),
    "resize, missing": lambda x: resample.rescale(x, (2, 1), mask=x > 2),
    "ndimage.zoom": lambda x: ndimage.zoom(x, (2, 1)),
    "ndimage.shift": lambda x: ndimage.shift(x, 0.5),
    "ndimage.spline_filter": lambda x: ndimage.spline_filter(x, output=x.dtype),
    "ndimage.spline_filter1d": lambda x: ndimage.spline_filter1d(x, output=x.dtype),
    "ndimage.convolve": lambda x: ndimage.convolve(x, np.outer(LINE, LINE)),
    "ndimage.convolve1d": lambda x: ndimage.convolve1d(x, LINE),
    "ndimage.correlate": lambda x: ndimage.correlate(x, np.outer(LINE, LINE)),
    "ndimage.correlate1d": lambda x: ndimage.correlate1d(x, LINE),
    "ndimage.gaussian_filter": lambda x: ndimage.gaussian_filter(x, 1),
    "ndimage.gaussian_filter, axis by axis": lambda x: ndimage.gaussian_filter(x, 300),
    "ndimage.gaussian_filter1d": lambda x: ndimage.gaussian_filter1d(x, 1),
    "ndimage.gaussian_gradient_magnitude": lambda x: ndimage.gaussian_gradient_magnitude(x, 1),
    "ndimage.gaussian_laplace": lambda x: ndimage.gaussian_laplace(x, 1),
    "ndimage.generic_gradient_magnitude": lambda x: ndimage.generic_gradient_magnitude(
        x, ndimage.sobel
    ),
    "ndimage.generic_laplace": lambda x: ndimage.generic_laplace(x, _second),
    "ndimage.laplace": lambda x: ndimage.laplace(x),
    "ndimage.prewitt": lambda x: ndimage.prewitt(x),
    "ndimage.sobel": lambda x: ndimage.sobel(x),
    "ndimage.uniform_filter": lambda x: ndimage.uniform_filter(x, 5),
    "ndimage.uniform_filter1d": lambda x: ndimage.uniform_filter1d(x, 5),
    "ndimage, no axis": lambda x: ndimage.gaussian_filter(x, 0),
}


def _second(x: Array, axis: int, output: Any, mode: str, cval: float) -> Array:
    return ndimage.correlate1d(x, [1, -2, 1], axis, output, mode, cval)


def assert_ordinary(make: Callable[[], Array]) -> None:
    """Require of a result, fresh each time, what holds for any array that NumPy makes."""
    array = make()
    assert array.flags.owndata
    assert array.base is None
    assert array.flags.writeable
    assert array.flags.aligned
    assert array.ctypes.data % 16 == 0
    assert memoryview(array).nbytes == array.nbytes
    array.setflags(write=False)
    array.setflags(write=True)
    assert len(pickle.dumps(array, 5)) < array.nbytes + 1000
    file = io.BytesIO()
    np.save(file, array)
    assert array.nbytes < len(file.getvalue()) <= array.nbytes + 1000
    shared = np.from_dlpack(array)
    assert np.shares_memory(shared, array)
    assert np.array_equal(shared, array, equal_nan=True)
    del shared
    if array.flags.c_contiguous:  # NumPy itself resizes no others
        before, last = array.size, array.flat[-1]
        array.resize(before + 5)
        assert (array[before:] == 0).all()
        assert array[before - 1] == last
        array.resize(7)
        assert array.nbytes == 7 * array.itemsize


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_returns_an_ordinary_array(name: str) -> None:
    image = image_of(result_memory.LARGE)
    assert_ordinary(lambda: OPERATORS[name](image))


@pytest.mark.parametrize("dtype", ["uint8", "float64", "complex64", "bool"])
@pytest.mark.parametrize("size", SIZES)
def test_results_are_ordinary_on_both_sides_of_every_threshold(size: str, dtype: str) -> None:
    image = image_of(SIZES[size], dtype)
    assert_ordinary(lambda: sep.convolve(image, LINE, axes=1))


def test_every_function_of_ndimage_is_among_them() -> None:
    assert {f"ndimage.{name}" for name in ndimage.__all__} <= set(OPERATORS)


@pytest.mark.compiled
def test_a_result_takes_its_memory_with_it_and_brings_it_back() -> None:
    image = image_of(result_memory.LARGE)
    result = sep.convolve(image, gaussian(1, ndim=2))
    expected, where = result.copy(), result.ctypes.data
    part = result[5:, 7:]
    del result
    for _ in range(3):
        sep.convolve(image[::-1], gaussian(1, ndim=2))
    assert np.array_equal(part, expected[5:, 7:])
    del part
    found = [sep.convolve(image, gaussian(1, ndim=2)) for _ in range(3)]
    assert where in [r.ctypes.data for r in found]


def test_resized_results_keep_apart() -> None:
    arrays = [result_memory.empty((result_memory.LARGE // 4,), "float32") for _ in range(6)]
    for n in range(6):
        arrays[n][...] = n
        arrays[n].resize((n + 1) * result_memory.LARGE // 8)
    fresh = [result_memory.empty((result_memory.LARGE // 4,), "float32") for _ in range(6)]
    for array in fresh:
        array[...] = -1
    for n, array in enumerate(arrays):
        kept = min(result_memory.LARGE // 4, array.size)
        assert (array[:kept] == n).all()
        assert (array[kept:] == 0).all()


@pytest.mark.compiled
def test_zeros_of_the_handler_are_zeros() -> None:
    result_memory.empty((result_memory.LARGE,), "uint8")[...] = 7
    blocks = result_memory._blocks()
    assert blocks is not None
    others = blocks._set(blocks._capsule)
    try:
        made = np.zeros(result_memory.LARGE, np.uint8)
        small = np.zeros(3)
    finally:
        blocks._set(others)
    assert not made.any()
    assert not small.any()


@pytest.mark.compiled
def test_other_arrays_are_numpys_own() -> None:
    get_handler_name = pytest.importorskip("numpy._core.multiarray").get_handler_name
    sep.convolve(image_of(result_memory.LARGE), LINE, axes=1)
    with pytest.raises(MemoryError, match="GiB for a result"):
        result_memory.empty((1 << 36, 3), "float64")
    assert get_handler_name(np.empty(result_memory.LARGE)) == "default_allocator"
    assert get_handler_name(result_memory.empty((result_memory.LARGE,), "uint8")) == "separable"


WITHOUT = """
import sys
import numpy as np
import separable as sep
from separable.engine import availability
from separable.engine import result_memory as memory

if sys.argv[1] == "loaded":
    import separable.engine.compiled.jit
elif sys.argv[1] == "failing":
    import separable.engine.compiled.jit as kernel
    def address(*arguments):
        with availability.compiling:
            raise RuntimeError("no code is made")
    kernel.address = address
made = [memory.empty((memory.LARGE,), "uint8") for _ in range(2)]
result = sep.convolve(np.ones((1024, 1024), "float32"), np.ones(3) / 3, axes=0)
assert all(a.flags.owndata for a in (*made, result)) and abs(result - 1).max() < 1e-6
del made, result
print(memory._blocks(), memory.kept_bytes(), availability.available())
"""


@pytest.mark.parametrize("state", ["loaded", "not loaded"])
def test_without_the_engine_arrays_are_numpys_own(state: str) -> None:
    environment = {**os.environ, "SEPARABLE_ENGINE": "scipy"}
    if state == "loaded":
        pytest.importorskip("numba")
    assert _printed(state, environment) == "None 0 False"


@pytest.mark.compiled
def test_an_engine_that_compiles_nothing_leaves_arrays_to_numpy() -> None:
    assert _printed("failing", dict(os.environ), "-Wignore") == "None 0 False"


def _printed(state: str, environment: dict[str, str], *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", WITHOUT, state],
        capture_output=True, text=True, timeout=1000, check=False, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


AFTERWARDS = """
import atexit, builtins, sys, threading
import numpy as np
import separable as sep
from separable.engine import result_memory as memory

image = np.ones((1024, 1024), np.float32)
sep.convolve(image, np.ones(3) / 3, axes=0)
builtins.kept = sep.convolve(image, np.ones(3) / 3, axes=0)
kept = [sep.convolve(image, np.ones(3) / 3, axes=0) for _ in range(3)]
class Late:
    def __del__(self, result=kept.pop()):
        result += 1
sys.late, sys.cycle = Late(), [kept.pop()]
sys.cycle.append(sys.cycle)
threading.Thread(target=threading.Event().wait, args=(), daemon=True).start()
atexit.register(lambda: builtins.__dict__.pop("kept"))
for name in [n for n in sys.modules if n.startswith(("separable", "numba"))]:
    del sys.modules[name]
"""


def test_results_outlive_the_library_and_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTERWARDS],
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_exception_survives_the_death_of_a_result() -> None:
    def fails() -> None:
        held = result_memory.empty((result_memory.LARGE,), "uint8")
        held[0] = 1
        raise KeyError("as raised")

    for _ in range(3):
        with pytest.raises(KeyError, match="as raised"):
            fails()
