"""Samples further apart than 32 bits can count, on files that are mostly holes."""

import shutil

import numpy as np
import pytest

import separable as sep

FAR = (1 << 31) + 4096  # bytes between neighbours along one axis
GAUSSIAN = sep.kernels.gaussian(1.0, ndim=2)
DISK = (np.hypot(*np.mgrid[-2:3, -2:3]) <= 2).astype(float)
KERNELS = {
    "direct": DISK, "separable": GAUSSIAN, "low-rank": DISK, "nested": DISK, "box": np.ones((3, 3)),
    "fft": DISK, "overlap": DISK,
}  # fmt: skip


@pytest.fixture
def holes(tmp_path):
    """Return views of sparse files: few samples, each neighbour 2 GiB away."""

    def view(name, shape, dtype, axis, sign):
        size = FAR * (shape[axis] - 1) + (1 << 20)
        path = tmp_path / name
        with path.open("wb") as file:
            try:
                file.truncate(size)
            except OSError as error:
                pytest.skip(f"no sparse file of {size} bytes: {error}")
        flat = np.memmap(path, np.uint8, "r+", shape=(size,))
        item = np.dtype(dtype).itemsize
        strides = [item * shape[1], item]
        strides[axis] = FAR * sign
        if axis == 0:
            strides[1] = item
        else:
            strides[0] = item
        start = FAR * (shape[axis] - 1) if sign < 0 else 0
        return np.ndarray(shape, dtype, flat, offset=start, strides=tuple(strides))

    return view


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("method", KERNELS)
def test_neighbours_two_gigabytes_away(holes, method, axis, sign):
    shape = (4, 40) if axis == 0 else (40, 4)
    rng = np.random.default_rng(0)
    for dtype in ("uint8", "float32"):
        near = rng.integers(0, 100, shape).astype(dtype)
        image, out = (holes(name, shape, dtype, axis, sign) for name in ("in", "out"))
        image[...] = near
        options = {"mode": "wrap", "output": dtype, "method": method}
        plan = sep.plan(KERNELS[method], shape, dtype, **options)
        plan(image, out)
        # Which axis comes first depends on the strides, and so does the rounding.
        np.testing.assert_allclose(out, plan(near), rtol=1e-6, atol=dtype == "uint8")


@pytest.mark.long
def test_more_samples_than_32_bits_count(tmp_path):
    """An axis of 2^31 + 5 positions, filtered along the other and read at both ends."""
    if shutil.disk_usage(tmp_path).free < 8 << 30:
        pytest.skip("needs 8 GiB of disk")
    shape = ((1 << 31) + 5, 1)
    image, out = (np.memmap(tmp_path / n, np.uint8, "w+", shape=shape) for n in ("in", "out"))
    image[:3, 0], image[-4:, 0] = (9, 8, 7), (4, 8, 12, 16)
    plan = sep.plan([0.25, 0.5, 0.25], shape, "uint8", axes=(1,), mode="constant", cval=2.0)
    plan(image, out)
    assert out[:4, 0].tolist() == [6, 5, 4, 1]
    assert out[-5:, 0].tolist() == [1, 3, 5, 7, 9]


def test_a_result_larger_than_memory_is_an_error_not_a_crash():
    shape = (1 << 40, 1 << 20)
    image = np.broadcast_to(np.float32(1), shape)
    plan = sep.plan(np.ones((1, 3)), shape, "float32")
    with pytest.raises(
        MemoryError, match=r"4294967296 GiB for a result of shape \(1099511627776, 1048576\)"
    ):
        plan(image)
