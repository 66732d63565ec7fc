"""Inputs other than plain arrays: every function filters them or raises an error of ours."""

from __future__ import annotations

import array
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import separable as sep
from separable import ndimage
from separable.errors import SeparableError

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(size=(6, 7))
WHOLE = RNG.integers(0, 99, (6, 7))
HOLES = RNG.random(IMAGE.shape) < 0.2
MASKED = np.ma.MaskedArray(np.where(HOLES, 1e9, IMAGE), HOLES)
KERNEL = np.array([[1.0, 2.0, 1.0], [0.5, 1.0, 0.5]]) / 6


def slope(input, axis, output, mode, cval, **missing):
    return ndimage.correlate1d(input, [-1.0, 0.0, 1.0], axis, float, mode, cval, **missing)


# Of every function of ndimage, what comes after the image, by the image's number of axes.
ARGUMENTS: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "convolve": lambda ndim: (weights(ndim),),
    "convolve1d": lambda ndim: ([1.0, 2.0],),
    "correlate": lambda ndim: (weights(ndim),),
    "correlate1d": lambda ndim: ([1.0, 2.0],),
    "gaussian_filter": lambda ndim: (1.0,),
    "gaussian_filter1d": lambda ndim: (1.0,),
    "gaussian_gradient_magnitude": lambda ndim: (1.0,),
    "gaussian_laplace": lambda ndim: (1.0,),
    "generic_gradient_magnitude": lambda ndim: (slope,),
    "generic_laplace": lambda ndim: (slope,),
    "laplace": lambda ndim: (),
    "prewitt": lambda ndim: (),
    "sobel": lambda ndim: (),
    "uniform_filter": lambda ndim: (),
    "uniform_filter1d": lambda ndim: (3,),
}


def weights(ndim: int) -> Any:
    return KERNEL if ndim == 2 else np.ones((2,) * ndim) / 2**ndim


def filtered(name: str) -> Callable[..., Any]:
    return lambda image, like, **fill: getattr(ndimage, name)(
        image, *ARGUMENTS[name](like.ndim), **fill
    )


def planned(image: Any, like: Any) -> Any:
    return sep.plan(weights(like.ndim), like.shape, like.dtype)(image)


def banked(image: Any, like: Any, **fill: Any) -> Any:
    return sep.bank([weights(like.ndim)], like.shape, like.dtype)(image, **fill)


def measured(image: Any, like: Any) -> Any:
    sep.plan(weights(like.ndim), like.shape, like.dtype).measure(image, repeats=1)
    return planned(np.asarray(like), like)


# Functions of (image, an array that is like it, [fill]).
CALLS: dict[str, Callable[..., Any]] = {
    "sep.convolve": lambda image, like, **fill: sep.convolve(image, weights(like.ndim), **fill),
    "sep.correlate": lambda image, like, **fill: sep.correlate(image, weights(like.ndim), **fill),
    **{f"ndimage.{name}": filtered(name) for name in ARGUMENTS},
    "plan(...)(image)": planned,
    "plan(...).measure(image)": measured,
    "bank(...)(image)": banked,
}
MISSING_REFUSED = ("plan(...)(image)", "plan(...).measure(image)")
FOR_ONE_SHAPE = (*MISSING_REFUSED, "bank(...)(image)")


class Foreign:
    """An array of another library."""

    def __array__(self, dtype=None, copy=None):
        return IMAGE.astype(dtype or float)


class OnGpu:
    """An array like CuPy's: it lies on a GPU and is not copied without being asked."""

    shape, dtype, ndim = IMAGE.shape, IMAGE.dtype, 2

    @property
    def __cuda_array_interface__(self):
        return {"shape": (6, 7), "typestr": "<f8", "data": (0, False), "version": 3}

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")


class Exchanged:
    """An array that has nothing but the protocol DLPack."""

    def __dlpack__(self, **options):
        return IMAGE.__dlpack__(**options)

    def __dlpack_device__(self):
        return IMAGE.__dlpack_device__()


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("a fault of this library")


@dataclass(frozen=True)
class Case:
    """A value that may be given: the array it stands for, or what the error says."""

    make: Callable[[], Any]
    like: Any = None
    error: str = ""


def read_only() -> Any:
    image = IMAGE.copy()
    image.flags.writeable = False
    return image


def xarray(name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(pytest.importorskip("xarray"), name)(*arguments, **options)


def dask_array(image: Any) -> Any:
    return pytest.importorskip("dask.array").from_array(image, chunks=4)


def delayed() -> Any:
    pytest.importorskip("dask.array")
    from dask.delayed import delayed

    return delayed(np.zeros)((6, 7))


def dataset() -> Any:
    return xarray("Dataset", {"height": (("y", "x"), IMAGE), "depth": (("y", "x"), IMAGE)})


def pandas(*arguments: Any, **options: Any) -> Any:
    return pytest.importorskip("pandas").DataFrame(*arguments, **options)


def matrix() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.asmatrix(IMAGE.copy())


def subclass() -> Any:
    class Own(np.ndarray):
        pass

    return IMAGE.view(Own)


NUMBERS = r"must be bool, an integer, float16 \.\. float64 or complex; got "
TAKEN = {
    "list": Case(IMAGE.tolist, IMAGE),
    "tuple of arrays": Case(lambda: tuple(IMAGE), IMAGE),
    "np.matrix": Case(lambda: matrix(), IMAGE),
    "subclass": Case(subclass, IMAGE),
    "read-only": Case(read_only, IMAGE),
    "strided": Case(lambda: np.repeat(IMAGE, 2, 1)[:, ::2], IMAGE),
    "byte-swapped": Case(lambda: IMAGE.astype(">f8"), IMAGE.astype(">f8")),
    "empty": Case(lambda: np.zeros((0, 7)), np.zeros((0, 7))),
    "memoryview": Case(lambda: memoryview(IMAGE), IMAGE),
    "memoryview of a part": Case(lambda: memoryview(IMAGE)[::2], IMAGE[::2]),
    "array.array": Case(lambda: array.array("d", IMAGE[0]), IMAGE[0]),
    "bytearray": Case(lambda: bytearray(range(9)), np.arange(9, dtype=np.uint8)),
    "__array__": Case(Foreign, IMAGE),
    "__dlpack__": Case(Exchanged, IMAGE),
    "pandas": Case(lambda: pandas(IMAGE), IMAGE),
    "xarray.DataArray": Case(lambda: xarray("DataArray", IMAGE), IMAGE),
    "xarray.Variable": Case(lambda: xarray("Variable", ("y", "x"), IMAGE), IMAGE),
    "masked, nothing masked": Case(lambda: np.ma.MaskedArray(IMAGE), IMAGE),
    "masked, all False": Case(lambda: np.ma.MaskedArray(IMAGE, HOLES & False), IMAGE),
    "whole, nothing masked": Case(lambda: np.ma.MaskedArray(WHOLE), WHOLE),
    "whole, all False": Case(lambda: np.ma.MaskedArray(WHOLE, HOLES & False), WHOLE),
}
LAZY = ("generic_laplace", "generic_gradient_magnitude")  # refuse Dask arrays
DASK = {
    "dask": Case(lambda: dask_array(IMAGE), IMAGE),
    "DataArray of dask": Case(lambda: xarray("DataArray", dask_array(IMAGE)), IMAGE),
}
REFUSED = {
    "None": Case(lambda: None, IMAGE, "must be an array of numbers; got NoneType"),
    "dict": Case(dict, IMAGE, "must be an array of numbers; got dict"),
    "set": Case(lambda: {1.0, 2.0}, IMAGE, "must be an array of numbers; got set"),
    "generator": Case(lambda: (x for x in [1.0]), IMAGE, "array of numbers; got generator"),
    "function": Case(lambda: slope, IMAGE, "must be an array of numbers; got function"),
    "object": Case(object, IMAGE, "must be an array of numbers; got object"),
    "ragged list": Case(
        lambda: [[1.0, 2.0], [3.0]], IMAGE, "2 numbers in row 1 and 1 numbers in row 2"
    ),
    "bytes": Case(lambda: b"abc", IMAGE, NUMBERS),
    "list of text": Case(lambda: [["a", "b"]], np.zeros((1, 2)), NUMBERS + "<U1"),
    "objects": Case(lambda: IMAGE.astype(object), IMAGE, NUMBERS + r"object.*astype\('float64'\)"),
    "datetimes": Case(lambda: WHOLE.astype("M8[s]"), WHOLE, NUMBERS + "datetime64.*'int64'"),
    "timedeltas": Case(lambda: WHOLE.astype("m8[s]"), WHOLE, NUMBERS + "timedelta64.*'int64'"),
    "fields": Case(lambda: np.zeros((6, 7), [("red", "u1")]), IMAGE, NUMBERS + r".*image\['red'\]"),
    "masked fields": Case(lambda: np.ma.zeros((6, 7), [("a", "u1")]), IMAGE, NUMBERS),
    "long double": Case(lambda: IMAGE.astype(np.longdouble), IMAGE, NUMBERS),
    "sparse matrix": Case(lambda: scipy.sparse.csr_matrix(IMAGE), IMAGE, r"dense.*\.toarray\(\)"),
    "sparse array": Case(lambda: scipy.sparse.coo_array(IMAGE), IMAGE, r"dense.*\.toarray\(\)"),
    "on a GPU": Case(OnGpu, IMAGE, r"in the computer's memory; got .*OnGpu.*\.get\(\).*torch"),
    "broken": Case(Broken, IMAGE, "NumPy cannot read .a fault of this library."),
    "released memory": Case(lambda: released(), IMAGE, "array of numbers; got memoryview"),
    "pandas with text": Case(lambda: pandas({"a": ["x"], "b": [1]}), np.zeros((1, 2)), NUMBERS),
    "xarray.Dataset": Case(dataset, IMAGE, r"one array; got an xarray.Dataset .*'height', 'depth'"),
    "dask.delayed": Case(delayed, IMAGE, "must be a Dask array; got Delayed.*from_delayed"),
}


def released() -> Any:
    view = memoryview(bytes(8))
    view.release()
    return view


@pytest.mark.parametrize("case", [*TAKEN, *DASK])
@pytest.mark.parametrize("call", CALLS)
def test_accepted_inputs_give_the_result_of_the_array(call: str, case: str) -> None:
    given = {**TAKEN, **DASK}[case]
    image = given.make()
    if case == "dask" and call.removeprefix("ndimage.") in LAZY:
        with pytest.raises(SeparableError, match="takes no Dask array"):
            CALLS[call](image, given.like)
        return
    exact = CALLS[call](np.array(given.like), given.like)
    found = CALLS[call](image, given.like)
    np.testing.assert_array_equal(np.asarray(found), exact)
    assert not isinstance(found, np.ndarray) or type(found) is np.ndarray


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("call", CALLS)
def test_refused_inputs_are_named_with_a_remedy(call: str, case: str) -> None:
    given = REFUSED[case]
    image = given.make()
    text = given.error
    if case == "xarray.Dataset" and call in (
        "sep.convolve",
        "sep.correlate",
    ):  # variable by variable
        assert list(CALLS[call](image, given.like)) == ["height", "depth"]
        return
    if call in FOR_ONE_SHAPE and text.startswith(NUMBERS):
        text = f"{text}|this (plan|bank) is for shape .*; got .*Make a (plan|bank)"
    with pytest.raises(SeparableError, match=text) as caught:
        CALLS[call](image, given.like)
    if "this " in str(caught.value):
        return
    assert "`image`" in str(caught.value) or "`input`" in str(caught.value)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("text", ["3.5", "abc"])
def test_text_is_a_path_or_refused(call: str, text: str) -> None:
    with pytest.raises(SeparableError):
        CALLS[call](text, IMAGE)


# Masked samples: never read as if they were valid.

HIDDEN = {
    "masked": lambda: MASKED,
    "subclass of a masked array": lambda: MASKED.view(type("Own", (np.ma.MaskedArray,), {})),
    "list of masked rows": lambda: [MASKED[k] for k in range(6)],
}


@pytest.mark.parametrize("case", HIDDEN)
@pytest.mark.parametrize("call", CALLS)
def test_masked_samples_are_missing_or_refused(call: str, case: str) -> None:
    image = HIDDEN[case]()
    if call in MISSING_REFUSED:
        count = int(HOLES.sum())
        with pytest.raises(SeparableError, match=f"{count} of 42 masked.*separable.convolve"):
            CALLS[call](image, IMAGE)
        return
    found = np.asarray(CALLS[call](image, IMAGE))
    name = call.partition(".")[2]
    if call.startswith("sep."):
        exact = getattr(sep, name)(MASKED.data, KERNEL, mask=~HOLES)
    elif call.startswith("bank"):
        exact = sep.bank([KERNEL], IMAGE.shape, IMAGE.dtype)(MASKED.data, mask=~HOLES)
    else:
        exact = getattr(ndimage, name)(MASKED.data, *ARGUMENTS[name](2), mask=~HOLES)
    np.testing.assert_array_equal(found, exact)
    assert np.nanmax(np.abs(found)) < 1e6


@pytest.mark.parametrize("call", CALLS)
def test_masked_chunks_of_dask_are_missing_or_refused(call: str) -> None:
    image = dask_array(MASKED)
    if call not in MISSING_REFUSED and "generic" not in call:
        found = np.asarray(CALLS[call](image, IMAGE))
        np.testing.assert_allclose(found, np.asarray(CALLS[call](MASKED, IMAGE)), rtol=1e-12)
        return
    with pytest.raises(SeparableError, match=r"masked|takes no Dask array") as caught:
        CALLS[call](image, IMAGE)
    assert "asarray" not in str(caught.value)


@pytest.mark.parametrize("call", [c for c in CALLS if c not in MISSING_REFUSED])
def test_whole_numbers_want_a_fill_only_where_samples_are_missing(call: str) -> None:
    whole = np.ma.MaskedArray(WHOLE, HOLES)
    with pytest.raises(SeparableError, match="`fill` must be a whole number"):
        CALLS[call](whole, WHOLE)
    assert CALLS[call](whole, WHOLE, fill=0).dtype == WHOLE.dtype
    complete = np.ma.MaskedArray(WHOLE)
    with pytest.raises(SeparableError, match="`fill` must be a"):  # a wrong one is told anyway
        CALLS[call](complete, WHOLE, fill=0.5)


def test_scalars_and_the_masked_constant() -> None:
    for image in (3.0, np.float32(3), np.array(3.0)):
        assert ndimage.gaussian_filter(image, 1).tolist() == 3.0
        with pytest.raises(SeparableError, match="the kernel has more axes than the image"):
            sep.convolve(image, [1.0])
    assert np.isnan(ndimage.gaussian_filter(np.ma.masked, 1))
    assert ndimage.gaussian_filter(np.ma.masked, 1, fill=5) == 5
    found = sep.convolve([1.0, np.ma.masked, 3.0], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(found, [3.0, 6.0, 9.0])


WRONG_KERNELS = {
    "masked": (lambda: np.ma.masked_equal([1.0, 2.0], 2), "1 of 2 masked.*filled"),
    "ragged": (lambda: [[1.0], [1.0, 2.0]], "different lengths"),
    "sparse": (lambda: scipy.sparse.csr_matrix(np.eye(2)), r"dense.*\.toarray"),
    "on a GPU": (OnGpu, r"in the computer's memory.*\.get"),
    "None": (lambda: None, "must be an array of numbers; got NoneType"),
    "Dataset": (dataset, "one array"),
    "text": (lambda: ["a"], "must hold numbers"),
}


@pytest.mark.parametrize("case", WRONG_KERNELS)
def test_kernels_are_arrays_of_numbers_too(case: str) -> None:
    make, text = WRONG_KERNELS[case]
    calls = [
        lambda kernel: sep.convolve(IMAGE[0], kernel),
        lambda kernel: sep.correlate(IMAGE[0], kernel),
        lambda kernel: sep.plan(kernel, (7,)),
        lambda kernel: sep.bank([kernel], (7,)),
        lambda kernel: sep.factorize(kernel, "yx -> y,x"),
        lambda kernel: ndimage.correlate(IMAGE[0], kernel),
        lambda kernel: ndimage.convolve1d(IMAGE, kernel),
    ]
    for call in calls:
        with pytest.raises(SeparableError, match=text):
            call(make())


def test_a_masked_kernel_does_not_take_the_plan_of_its_data() -> None:
    """Plans are remembered by the kernel's numbers; masked ones are not among them."""
    sep.convolve(IMAGE[0], [1.0, 2.0])
    with pytest.raises(SeparableError, match="masked"):
        sep.convolve(IMAGE[0], np.ma.masked_equal([1.0, 2.0], 2))


def test_masks_are_arrays_too() -> None:
    valid = ~HOLES
    exact = sep.convolve(IMAGE, KERNEL, mask=valid)
    for mask in (valid.tolist(), memoryview(valid.astype("u1")), scipy.sparse.csr_matrix(valid)):
        if scipy.sparse.issparse(mask):
            with pytest.raises(SeparableError, match=r"`mask` must be a dense.*\.toarray"):
                sep.convolve(IMAGE, KERNEL, mask=mask)
        else:
            np.testing.assert_array_equal(sep.convolve(IMAGE, KERNEL, mask=mask), exact)
    for call in (sep.convolve, ndimage.convolve):
        with pytest.raises(SeparableError, match="`mask` must be a plain array"):
            call(IMAGE, KERNEL, mask=np.ma.MaskedArray(valid, HOLES))
        with pytest.raises(SeparableError, match="`mask` must"):
            call(IMAGE, KERNEL, mask=[[1], [1, 2]])


WRONG_OUTPUTS = {
    "list": lambda: [[0.0]],
    "DataArray": lambda: xarray("DataArray", IMAGE.copy()),
    "pandas": lambda: pandas(IMAGE),
    "object": lambda: object(),
}


@pytest.mark.parametrize("case", WRONG_OUTPUTS)
def test_an_output_that_is_not_an_array_is_refused_not_ignored(case: str) -> None:
    made = sep.plan(KERNEL, IMAGE.shape)
    with pytest.raises(SeparableError, match="`output` must"):
        sep.convolve(IMAGE, KERNEL, output=WRONG_OUTPUTS[case]())
    with pytest.raises(SeparableError, match="`out` must be an ndarray"):
        made(IMAGE, out=WRONG_OUTPUTS[case]())


def test_outputs_of_subclasses_hold_the_result() -> None:
    exact = sep.convolve(IMAGE, KERNEL)
    for output in (matrix(), np.ma.zeros((6, 7)), subclass().copy()):
        for call in (
            lambda out: sep.convolve(IMAGE, KERNEL, output=out),
            lambda out: ndimage.convolve(IMAGE, KERNEL, output=out),
            lambda out: sep.plan(KERNEL, IMAGE.shape)(IMAGE, out=out),
        ):
            output[...] = 0
            found = call(output)
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(np.asarray(output), exact)


# Tensors

TENSORS = {
    "sparse": "t.to_sparse()",
    "sparse rows": "t.to_sparse_csr()",
    "quantized": "torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8)",
    "nested": "torch.nested.nested_tensor([t[0], t[1, :3]])",
    "meta": "t.to('meta')",
    "float8": "t.to(torch.float8_e5m2)",
    "complex32": "t.to(torch.complex32)",
    "bfloat16": "t.to(torch.bfloat16)",
    "gradient": "t.clone().requires_grad_()",
    "conjugated": "(t + 1j).conj()",
    "uint16": "t.abs().to(torch.uint16)",
    "bool": "t > 0",
    "strided": "t.t()",
}


@pytest.mark.parametrize("case", TENSORS)
@pytest.mark.parametrize("call", CALLS)
def test_tensors_of_odd_types_are_taken_or_refused(call: str, case: str) -> None:
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(IMAGE.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = eval(TENSORS[case], {"torch": torch, "t": t})
        like = IMAGE
        if case in ("conjugated", "uint16", "bool", "strided"):
            like = tensor.resolve_conj().numpy()
        try:
            found = CALLS[call](tensor, like)
        except SeparableError as error:
            refusal = str(error)
        else:
            refusal = ""
    if refusal:
        assert any(word in refusal for word in ("image", "input", "tensor"))
        return
    assert tuple(found.shape[-2:]) == tuple(like.shape)
