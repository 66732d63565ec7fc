"""Images in the byte order of other computers: the same results, without a whole copy of the image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import separable as sep
from separable import run
from separable.borders import registered_borders
from separable.engine import METHODS
from separable.volumes import foreign_byte_order

FOREIGN = ">" if sys.byteorder == "little" else "<"
RNG = np.random.default_rng(5)
VOLUME = RNG.integers(0, 200, (23, 31, 37))
DENSE = RNG.random((3, 5, 3))
SMOOTH = np.ones((3, 3, 3)) / 27
KERNELS = (  # among them one that each method takes
    RNG.random((5, 3)),
    SMOOTH,
    DENSE,
    sep.kernels.laplacian_of_gaussian(1, ndim=3),
    sep.kernels.gaussian(2.5, ndim=3),
    np.kron(RNG.random((2, 3)), RNG.random((3, 2))),
)


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Cut small images, too; the list says for each run whether it was cut."""
    monkeypatch.setattr(run, "SLABBED", 0)
    monkeypatch.setattr(foreign_byte_order, "SLAB_BYTES", 16 << 10)
    monkeypatch.setattr(foreign_byte_order, "RUN_BYTES", 64)
    done: list[bool] = []
    before = foreign_byte_order.filter_by_slabs

    def watched(*arguments: object) -> bool:
        done.append(before(*arguments))  # type: ignore[arg-type]
        return done[-1]

    monkeypatch.setattr(foreign_byte_order, "filter_by_slabs", watched)
    return done


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["f4", "u2", "c8"])
def test_every_method_is_bit_identical_to_native_byte_order(
    method: str, kind: str, small_slabs: list[bool]
) -> None:
    if reason := METHODS[method].unavailable():
        pytest.skip(f"{method} needs the compiled engine: {reason}")
    native = VOLUME.astype(kind)
    foreign = native.astype(FOREIGN + kind)
    for kernel in KERNELS:
        options = {"tol": 1e-3, "axes": tuple(range(-len(kernel.shape), 0))}
        p = sep.plan(kernel, native.shape, native.dtype, **options)
        forms = [c.form for c in p.candidates if c.form is not None]
        runs = [f for f in forms if not METHODS[method].refuse(p.problem, f)]
        if runs:
            break
    else:
        raise AssertionError(f"no kernel for {method}")
    expected = run.run(p.problem, METHODS[method], runs[0], native)
    theirs = sep.plan(kernel, native.shape, foreign.dtype, **options).problem
    found = run.run(theirs, METHODS[method], runs[0], foreign)
    assert found.dtype == foreign.dtype
    np.testing.assert_array_equal(found, expected)
    assert small_slabs == [METHODS[method].chunk_invariant]


@pytest.mark.parametrize("mode", registered_borders(), ids=str)
@pytest.mark.parametrize("kernel", [SMOOTH, DENSE, np.ones((7, 1, 9)), np.ones((1, 1, 3))])
def test_every_border(mode: str, kernel: np.ndarray, small_slabs: list[bool]) -> None:
    native = VOLUME.astype("f4")
    expected = sep.convolve(native, kernel, mode=mode, cval=7, method="direct")
    found = sep.convolve(native.astype(FOREIGN + "f4"), kernel, mode=mode, cval=7, method="direct")
    np.testing.assert_array_equal(found, expected)
    assert small_slabs == [True]


def test_layouts_outputs_and_progress(small_slabs: list[bool]) -> None:
    native = VOLUME.astype("f8")
    foreign = native.astype(FOREIGN + "f8")
    p = sep.plan(SMOOTH, native.shape, foreign.dtype, output="u1")
    expected = sep.plan(SMOOTH, native.shape, native.dtype, output="u1")(native)
    told: list[float] = []
    np.testing.assert_array_equal(p(foreign, progress=told.append), expected)
    assert sum(told) == pytest.approx(1)
    assert len(told) > 2
    out = np.zeros((23, 31, 74), "u1")[:, :, ::2]
    assert p(foreign, out) is out
    np.testing.assert_array_equal(out, expected)
    # Fortran's order: the same but for rounding, for sums begin at another axis.
    turned = sep.convolve(np.asfortranarray(foreign), SMOOTH, method="separable")
    np.testing.assert_allclose(turned, sep.convolve(native, SMOOTH), rtol=1e-12)
    assert small_slabs == [True] * 3
    # What overlaps is copied first.
    own = foreign.copy()
    sep.convolve(own, SMOOTH, output=own, method="separable")
    np.testing.assert_array_equal(own, sep.convolve(native, SMOOTH, method="separable"))
    assert small_slabs == [True] * 3


MEMORY = """
import sys
import numpy as np
import separable as sep
from separable import system
path, size, kind, entry = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
image = np.memmap(path, kind, "r", shape=(size, 512, 512))
kernel = sep.kernels.gaussian(1.5, ndim=3)
sep.convolve(np.zeros((4, 8, 8), "f4"), kernel)
before = system.resident_memory()
out = sep.ndimage.gaussian_filter(image, 1.5) if entry == "ndimage" else sep.convolve(image, kernel)
print(system.peak_memory() - before, out.nbytes, float(out[5, 6, 7]), float(out[-1, -1, -1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read there")
@pytest.mark.parametrize("entry", ["convolve", "ndimage"])
def test_a_memory_map_is_not_copied_whole(tmp_path: Path, entry: str) -> None:
    size = 96  # MiB: planes of 1 MiB
    path = tmp_path / "image.dat"
    row = RNG.random((512, 512)).astype(FOREIGN + "f4")
    with path.open("wb") as file:
        for step in range(size):
            file.write((row + step).astype(row.dtype).tobytes())
    command = [sys.executable, "-c", MEMORY, path, str(size), FOREIGN + "f4", entry]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, out, first, last = map(float, done.stdout.split())
    assert out == size << 20
    # The result, and the pages of the file that are looked at, which are the system's to drop.
    assert peak - 2 * out < 0.7 * out, f"{peak / 2**20:.0f} MiB"
    whole = np.fromfile(path, FOREIGN + "f4").astype("f4").reshape(size, 512, 512)
    expected = sep.convolve(whole, sep.kernels.gaussian(1.5, ndim=3))
    assert (first, last) == (float(expected[5, 6, 7]), float(expected[-1, -1, -1]))
