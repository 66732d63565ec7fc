"""Filters of Dask arrays: lazy, in the image's chunks, with the bits of the array in memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import separable as sep
from separable import ndimage
from separable.borders import mode_names
from separable.engine.availability import available
from separable.errors import ArgumentError, ArgumentTypeError, KernelError, OutputError
from separable.volumes import chunkwise, dask_arrays
from separable.volumes.dask_schedule import Grid, Layer, schedule
from separable.volumes.filter_stages import groupings
from separable.volumes.halo import block_filter

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

PLAIN = ("reflect", "mirror", "nearest", "wrap", "constant")


@pytest.fixture(autouse=True)
def _in_turn():
    with dask.config.set(scheduler="synchronous"):
        yield


def volume(shape, dtype="float32", seed=0):
    values = np.random.default_rng(seed).random(shape) * 200
    return values.astype(dtype)


def in_memory(image, kernel, **options):
    """Return the result in memory, by a method that does not depend on the chunks."""
    made = sep.plan(kernel, image.shape, image.dtype, **options)
    return chunkwise(made)(image)


@st.composite
def cuts(draw, n):
    """Any chunks of an axis, of one sample and empty ones too."""
    sizes, left = [], n
    while left:
        size = draw(st.integers(1, left))
        sizes.append(size)
        left -= size
    if draw(st.booleans()) and len(sizes) < 3:
        sizes.insert(draw(st.integers(0, len(sizes))), 0)
    return tuple(sizes)


@st.composite
def filters(draw):
    """An image in chunks, a kernel that fits, and options."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, (40, 14, 7)[ndim - 1])) for _ in range(ndim))
    count = draw(st.integers(1, ndim))
    axes = tuple(sorted(draw(st.permutations(range(ndim)))[:count]))
    sizes = tuple(draw(st.integers(1, 9)) for _ in axes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kernel = rng.normal(size=sizes)
    if draw(st.booleans()):  # of rank 1
        kernel = np.ones(())
        for n in sizes:
            kernel = np.multiply.outer(kernel, rng.normal(size=n))
    options = {
        "axes": axes,
        "mode": tuple(draw(st.sampled_from(PLAIN)) for _ in axes),
        "cval": draw(st.sampled_from([0.0, 3.7])),
        "origin": tuple(draw(st.integers(-((n - 1) // 2), (n - 1) // 2)) for n in sizes),
    }
    dtype = draw(st.sampled_from(["float32", "uint8", "float64", "int64", "bool", "complex64"]))
    chunks = tuple(draw(cuts(n)) for n in shape)
    return volume(shape, dtype), chunks, kernel, options


@given(filters())
def test_any_chunks_are_bit_identical_to_the_array_in_memory(case):
    image, chunks, kernel, options = case
    lazy = da.from_array(image, chunks=chunks)
    result = sep.convolve(lazy, kernel, **options)
    assert isinstance(result, da.Array)
    assert result.chunks == lazy.chunks
    expected = in_memory(image, kernel, **options)
    assert result.dtype == expected.dtype == result._meta.dtype
    found = result.compute()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", mode_names())
@pytest.mark.parametrize("chunks", [(5, 9, 30), (1, 24, 7), (26, 24, 30), (13, 2, 30)])
def test_each_border_with_a_halo_larger_than_chunks(mode, chunks):
    image = volume((26, 24, 30))
    kernel = sep.kernels.gaussian((1, 3, 2))
    found = sep.correlate(
        da.from_array(image, chunks=chunks), kernel, mode=mode, cval=2.5
    ).compute()
    expected = in_memory(image, kernel, mode=mode, cval=2.5, operation="correlate")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("method", ["separable", "direct", "low-rank", "nested", "passes"])
def test_each_way_to_cut_the_work_gives_the_same_bits(mode, method, monkeypatch):
    """Every grouping of the axes into layers, and chunks joined or not."""
    image = volume((24, 17, 40))
    kernel = sep.kernels.gaussian((1, 2, 1)).dense()
    if method == "direct":
        kernel = kernel[3:6, 7:10, 3:6]
    elif method in ("low-rank", "nested"):
        kernel = kernel + np.flip(kernel, 0) * np.random.default_rng(1).random(kernel.shape)
        kernel = kernel[:, :3, :3]
    options = {"mode": mode, "cval": 1.5, "method": method}
    expected = in_memory(image, kernel, **options)
    lazy = da.from_array(image, chunks=(7, 17, 13))
    whole = block_filter(sep.plan(kernel, image.shape, image.dtype, **options))
    grids = [Grid(lazy.chunks), Grid(((14, 10), (17,), (26, 14)))]
    ways = list(groupings(whole))
    assert len(ways) >= (3 if method == "separable" and available() else 1)
    for stages in ways:
        for grid in grids:
            layers = tuple(Layer(stage, grid) for stage in stages)
            monkeypatch.setattr(dask_arrays, "schedule", lambda *_, layers=layers: layers)
            result = sep.convolve(lazy, kernel, **options)
            assert result.chunks == lazy.chunks
            np.testing.assert_array_equal(result.compute(), expected)


@pytest.mark.parametrize("mode", ["wrap", "reflect"])
def test_strips_for_other_processes_give_the_same_bits(mode, monkeypatch):
    monkeypatch.setattr(dask_arrays, "_crosses_processes", lambda: True)
    image = volume((40, 40, 40))
    lazy = da.from_array(image, chunks=(20, 13, 10))
    result = sep.convolve(lazy, np.ones((3, 3, 3)), mode=mode)
    strips = [k for k in result.__dask_graph__() if "-strip" in str(k)]
    assert strips
    np.testing.assert_array_equal(result.compute(), in_memory(image, np.ones((3, 3, 3)), mode=mode))


def test_strips_are_copies_and_small():
    chunk = volume((20, 13, 10))
    strip = dask_arrays._strip(chunk, 1, 11, 2)
    np.testing.assert_array_equal(strip, chunk[:, 11:13])
    assert not np.shares_memory(strip, chunk)


def test_wrap_takes_the_other_side_and_no_more():
    """dask-image gets this wrong in chunks (dask-image issue 242)."""
    image = np.arange(12.0)
    found = sep.correlate(da.from_array(image, chunks=4), [1, 0, 0], mode="wrap").compute()
    np.testing.assert_array_equal(found, np.roll(image, 1))


def test_all_processors_at_once_give_the_same_bits():
    image = volume((64, 64, 64))
    kernel = sep.kernels.gaussian(2, ndim=3)
    result = sep.convolve(da.from_array(image, chunks=16), kernel)
    np.testing.assert_array_equal(
        result.compute(scheduler="threads", num_workers=4), in_memory(image, kernel)
    )


def test_one_chunk_of_the_result_needs_only_its_neighbours():
    image = da.zeros((400, 400), chunks=100)
    result = sep.convolve(image, np.ones((5, 5)))
    (optimised,) = dask.optimize(result.blocks[0, 0])
    tasks = optimised.__dask_graph__()
    assert 4 <= len(tasks) <= 8  # four chunks, the filter, the region, its names


# What a graph costs


def test_the_kernel_is_in_the_graph_once():
    rng = np.random.default_rng(0)
    kernel = np.multiply.outer(rng.random(64), rng.random(64))  # 32 KiB
    result = sep.convolve(da.zeros((1000, 1000), chunks=50), kernel, method="separable")
    sizes = sorted(len(pickle.dumps(task)) for task in dict(result.__dask_graph__()).values())
    layers = sum(s > kernel.nbytes / 2 for s in sizes)
    assert 1 <= layers <= 2
    assert sizes[-1] < 4 * kernel.nbytes


def test_small_chunks_are_joined():
    result = sep.convolve(
        da.zeros((64, 64, 64), chunks=(1, 64, 64)), sep.kernels.gaussian(2, ndim=3)
    )
    whole = block_filter(sep.plan(sep.kernels.gaussian(2, ndim=3), (64, 64, 64)))
    (layer, *_) = schedule(whole, ((1,) * 64, (64,), (64,)))
    assert layer.grid.count <= 4
    assert result.chunks[0] == (1,) * 64


@pytest.mark.compiled
def test_a_large_halo_makes_a_layer_for_each_axis():
    chunks = ((128,) * 4,) * 3

    def layers(sigma):
        made = sep.plan(
            sep.kernels.gaussian(sigma, ndim=3), (512,) * 3, "float32", method="separable"
        )
        return [x.filter.problem.axes for x in schedule(block_filter(made), chunks)]

    assert layers(1) == [(0, 1, 2)]
    assert layers(30) == [(1,), (2,), (0,)]


def test_no_task_holds_more_than_a_region_with_its_halo(monkeypatch):
    seen = []

    def look(shape, dtype):
        seen.append(shape)
        return np.empty(shape, dtype)

    monkeypatch.setattr(dask_arrays, "empty", look)
    image = da.zeros((1024, 1024), chunks=256, dtype="float32")
    sep.convolve(image, sep.kernels.gaussian(2)).compute()
    assert seen
    assert max(map(np.prod, seen)) <= (512 + 16) ** 2  # four chunks may be joined


def test_the_name_tells_filters_apart():
    image = da.zeros((20, 20), chunks=10)
    one, same = sep.convolve(image, np.ones((3, 3))), sep.convolve(image, np.ones((3, 3)))
    other = sep.convolve(image, np.ones((3, 3)), mode="wrap")
    assert one.name == same.name != other.name


# ndimage


FILTERS = [
    ("gaussian_filter", (2,)),
    ("gaussian_filter1d", (2, 0)),
    ("uniform_filter", (5,)),
    ("uniform_filter1d", (4,)),
    ("sobel", (0,)),
    ("prewitt", ()),
    ("laplace", ()),
    ("gaussian_laplace", (1.5,)),
    ("gaussian_gradient_magnitude", (1,)),
    ("correlate1d", ([1, 2, 4],)),
    ("convolve1d", ([1, 2, 4], 0)),
    ("correlate", ([[0, 1, 5], [2, 3, 1]],)),
    ("convolve", ([[0, 1, 5], [2, 3, 1]],)),
]


@pytest.mark.parametrize(("name", "arguments"), FILTERS)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_ndimage_filters_are_lazy(name, arguments, dtype):
    image = volume((30, 41), dtype)
    function = getattr(ndimage, name)
    lazy = da.from_array(image, chunks=(7, 41))
    found = function(lazy, *arguments, mode="wrap")
    assert isinstance(found, da.Array)
    assert found.chunks == lazy.chunks
    expected = function(image, *arguments, mode="wrap")
    assert found.dtype == expected.dtype
    off = 1 if dtype == "uint8" else 2e-5  # another method may be taken in memory
    np.testing.assert_allclose(found.compute(), expected, atol=off)


def test_ndimage_of_no_width_and_other_types():
    image = volume((10, 12), "float64")
    lazy = da.from_array(image, chunks=(3, 5))
    found = ndimage.gaussian_filter(lazy, 0, output="uint8")
    np.testing.assert_array_equal(
        found.compute(), ndimage.gaussian_filter(image, 0, output="uint8")
    )
    found = ndimage.gaussian_gradient_magnitude(lazy, 1, output="int16")
    expected = ndimage.gaussian_gradient_magnitude(image, 1, output="int16")
    np.testing.assert_array_equal(found.compute(), expected)


def test_kernels_with_too_large_halos_run_axis_by_axis():
    image = volume((40, 30, 20), "uint8")
    lazy = da.from_array(image, chunks=(20, 30, 7))
    found = ndimage.gaussian_filter(lazy, (20, 20, 15), mode="wrap")
    expected = ndimage.gaussian_filter(image, (20, 20, 15), mode="wrap")
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.compute(), expected, atol=1)


# Empty and odd input


def test_arrays_without_samples():
    image = da.zeros((0, 5), chunks=(1, 5), dtype="uint8")
    found = sep.convolve(image, np.ones((3, 3)), output="float32")
    assert (found.shape, found.dtype) == ((0, 5), np.float32)
    assert found.compute().shape == (0, 5)


def test_a_kernel_that_is_a_dask_array():
    image = volume((9, 9))
    found = sep.convolve(da.from_array(image, chunks=4), da.ones((3, 3), chunks=2))
    np.testing.assert_array_equal(found.compute(), in_memory(image, np.ones((3, 3))))


def test_unknown_chunk_sizes_are_refused():
    image = da.ones(10, chunks=5)
    unknown = image[image > 0]
    with pytest.raises(ArgumentError, match=r"not known.*compute_chunk_sizes\(\) first"):
        sep.convolve(unknown, [1, 2, 1])
    known = unknown.compute_chunk_sizes()
    assert sep.convolve(known, [1, 2, 1]).shape == (10,)


def test_an_array_to_write_into_is_refused():
    image = da.ones((4, 4), chunks=2)
    for function in (sep.convolve, ndimage.convolve):
        with pytest.raises(OutputError, match=r"must (name a type|be a dtype).*to_zarr"):
            function(image, np.ones((3, 3)), output=np.empty((4, 4)))


def test_other_chunks_than_numpy_arrays_are_refused():
    class Other:
        shape, dtype, ndim = (0, 0), np.dtype(float), 2

    image = da.ones((4, 4), chunks=2).map_blocks(lambda chunk: chunk, dtype=float)
    image._meta = Other()
    with pytest.raises(ArgumentTypeError, match=r"NumPy arrays; .*Other.*todense\(\) or chunk.get"):
        sep.convolve(image, np.ones((3, 3)))


def masked_volume(shape, seed=0):
    rng = np.random.default_rng(seed)
    holes = rng.random(shape) < 0.3
    holes[: shape[0] // 2, :3] = True  # more than a kernel
    return np.ma.MaskedArray(np.where(holes, 1e30, rng.normal(size=shape)), holes)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("chunks", [(4, 5), (-1, 3), (13, 17)])
@pytest.mark.parametrize(
    "kernel", [np.ones((3, 3)) / 9, np.outer([1, 2, 1], [-1, 0, 1])], ids=["mean", "slope"]
)
def test_masked_chunks_are_filtered_as_in_memory(kernel, chunks, mode):
    image = masked_volume((13, 17))
    exact = sep.convolve(image, kernel, mode=mode, fill=-7)
    assert (exact == -7).any()
    found = sep.convolve(da.from_array(image, chunks=chunks), kernel, mode=mode, fill=-7)
    assert type(found._meta) is np.ndarray
    result = found.compute()
    assert type(result) is np.ndarray
    np.testing.assert_allclose(result, exact, rtol=0, atol=1e-13)


def test_masked_chunks_and_a_mask_and_nan():
    image = masked_volume((12, 10))
    image.data[3, 4:7] = np.nan
    mask = np.random.default_rng(9).random(image.shape) > 0.2
    kernel = np.ones((3, 3)) / 9
    exact = sep.convolve(image, kernel, mask=mask, nan="ignore")
    for beside in (mask, da.from_array(mask, chunks=4)):
        found = sep.convolve(da.from_array(image, chunks=5), kernel, mask=beside, nan="ignore")
        np.testing.assert_allclose(found.compute(), exact, rtol=0, atol=1e-13)
    with pytest.raises(ArgumentTypeError, match="`mask` must be a plain array"):
        sep.convolve(da.from_array(image, chunks=5), kernel, mask=da.from_array(image, chunks=5))


@pytest.mark.parametrize(
    "make",
    [
        lambda image: da.from_array(image, chunks=4),
        lambda image: da.ma.masked_array(da.from_array(image.data, chunks=4), mask=image.mask),
        lambda image: da.ma.masked_greater(da.from_array(image.data, chunks=4), 1e20),
        lambda image: da.from_array(image, chunks=4)[::-1][::-1] * 1.0,
    ],
    ids=["from_array", "masked_array", "masked_greater", "computed"],
)
def test_masked_chunks_however_they_were_made(make):
    image = masked_volume((9, 11))
    kernel = np.ones((3, 3)) / 9
    np.testing.assert_allclose(
        sep.convolve(make(image), kernel).compute(), sep.convolve(image, kernel), rtol=0, atol=1e-13
    )


def test_masked_chunks_of_whole_numbers_want_a_fill():
    image = np.ma.masked_greater(volume((9, 9), np.uint8), 120)
    lazy = da.from_array(image, chunks=4)
    with pytest.raises(ArgumentError, match="`fill` must be a whole number"):
        sep.convolve(lazy, np.ones((3, 3)) / 9)
    exact = sep.convolve(image, np.ones((3, 3)) / 9, fill=0)
    found = sep.convolve(lazy, np.ones((3, 3)) / 9, fill=0)
    np.testing.assert_array_equal(found.compute(), exact)
    empty = da.from_array(np.ma.zeros((0, 9)), chunks=4)
    assert sep.convolve(empty, np.ones((3, 3))).compute().shape == (0, 9)


def test_masked_chunks_that_the_array_does_not_declare_are_refused():
    """A Dask array knows its chunks by `_meta`; where that is wrong nothing masked is read."""
    image = masked_volume((8, 8))
    lazy = da.from_array(image.data, chunks=4).map_blocks(
        lambda chunk: np.ma.masked_greater(chunk, 1e20), meta=np.empty((0, 0))
    )
    with pytest.raises(ArgumentError, match=r"_meta.*numpy\.ma\.asarray"):
        sep.convolve(lazy, np.ones((3, 3)) / 9).compute()
    declared = lazy.map_blocks(np.ma.asarray, meta=np.ma.empty((0,) * lazy.ndim, lazy.dtype))
    np.testing.assert_allclose(
        sep.convolve(declared, np.ones((3, 3)) / 9).compute(),
        sep.convolve(image, np.ones((3, 3)) / 9),
        rtol=0, atol=1e-13,
    )  # fmt: skip


def test_ndimage_leaves_out_masked_samples_of_chunks():
    image = masked_volume((8, 8))
    lazy = da.from_array(image, chunks=4)
    np.testing.assert_allclose(
        ndimage.gaussian_filter(lazy, 1).compute(), ndimage.gaussian_filter(image, 1), atol=1e-13
    )


def test_functions_of_the_user_are_refused():
    image = da.ones((4, 4), chunks=2)
    for name in ("generic_laplace", "generic_gradient_magnitude"):
        with pytest.raises(ArgumentTypeError, match=f"`{name}` takes no Dask array.*map_overlap"):
            getattr(ndimage, name)(image, ndimage.sobel)


def test_mistakes_are_reported_when_called_not_when_computed():
    image = da.ones((4, 4), chunks=2)
    with pytest.raises(KernelError, match="has more axes than the image"):
        sep.convolve(image, np.ones((3, 3, 3)))
    with pytest.raises(ArgumentError, match="depend on how a volume is cut"):
        sep.convolve(image, np.ones((3, 3)), method="fft")
