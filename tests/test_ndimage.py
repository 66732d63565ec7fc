"""The face of `separable.ndimage`: signatures, arguments, errors, outputs, plans."""

import inspect
import subprocess
import sys
import traceback

import numpy as np
import pytest
import scipy
import scipy.ndimage

import separable as sep
from separable import errors, filtering, ndimage
from separable.ndimage import apply, derivative_filters, masks, smoothing_filters
from separable.ndimage.scipy_arguments import (
    AxisError,
    CvalError,
    OriginError,
    SequenceError,
    SizeError,
    WeightsError,
)

IMAGE = np.arange(12.0).reshape(3, 4)
COMPLEX = IMAGE + 1j


def identity(input, axis, output, mode, cval):
    return input


CALLS = {
    "convolve": (np.ones((2, 3)),),
    "convolve1d": ([1, 2, 3],),
    "correlate": (np.ones((2, 3)),),
    "correlate1d": ([1, 2, 3],),
    "gaussian_filter": (1.0,),
    "gaussian_filter1d": (1.0,),
    "gaussian_gradient_magnitude": (1.0,),
    "gaussian_laplace": (1.0,),
    "generic_gradient_magnitude": (identity,),
    "generic_laplace": (identity,),
    "laplace": (),
    "prewitt": (),
    "sobel": (),
    "uniform_filter": (),
    "uniform_filter1d": (3,),
}


def call(module, name, image=IMAGE, *arguments, **options):
    return getattr(module, name)(image, *(arguments or CALLS[name]), **options)


INTERPOLATIONS = ("shift", "spline_filter", "spline_filter1d", "zoom")


def test_every_linear_filter_is_there_and_listed():
    assert ndimage.__all__ == sorted([*CALLS, *INTERPOLATIONS])


@pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 17), reason="SciPy 1.17's signatures"
)
@pytest.mark.parametrize("name", CALLS)
def test_signatures_are_those_of_scipy(name):
    ours = inspect.signature(getattr(ndimage, name)).parameters.values()
    theirs = inspect.signature(getattr(scipy.ndimage, name)).parameters.values()
    known = [(p.name, p.kind, p.default) for p in theirs]
    assert [p for p in ((p.name, p.kind, p.default) for p in ours) if p in known] == known
    more = [p for p in ours if (p.name, p.kind, p.default) not in known]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in more)


def test_importing_it_imports_no_scipy():
    code = (
        "import sys, separable.ndimage; "
        "print([m for m in sys.modules if m.split('.')[0] in ('scipy', 'numba', 'tensorly')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Errors: SciPy's class, ours, and what the message says.


class Anything:
    """Stands for a class that SciPy raises by accident, or not at all."""


# SciPy's class, whose words there speak of something else: of two axes as one, of a radius.
OTHER_WORDS = ((RuntimeError,), (ValueError,))

ERRORS = [
    ("correlate", ([1, 2],), {}, RuntimeError, WeightsError, "`weights` .* got shape (2,)"),
    ("convolve", (np.ones((0, 3)),), {}, (RuntimeError,), WeightsError, "got shape (0, 3)"),
    ("correlate", (np.ones((2, 2)),), {"axes": 0}, RuntimeError, WeightsError, "each of the 1"),
    ("correlate1d", ([],), {}, RuntimeError, WeightsError, "no filter weights"),
    ("convolve1d", ([[1, 2]],), {}, RuntimeError, WeightsError, "got shape (1, 2)"),
    ("convolve1d", (5,), {}, Anything, WeightsError, "got shape ()"),
    ("correlate1d", (["a"],), {}, Anything, errors.DTypeError, "must hold numbers"),
    ("correlate1d", ([1, 2], 3), {}, IndexError, AxisError, "`axis` must be -2 .. 1"),
    ("sobel", (-3,), {}, ValueError, AxisError, "got -3"),
    ("uniform_filter1d", (3, 0.5), {}, TypeError, errors.ArgumentTypeError, "`axis` .* 0.5"),
    ("gaussian_filter", (1,), {"axes": (5,)}, ValueError, AxisError, "got (5,)"),
    ("gaussian_filter", (1,), {"axes": (0, -2)}, ValueError, errors.ArgumentError, "unique"),
    ("gaussian_filter", (1,), {"axes": 0.5}, TypeError, errors.ArgumentTypeError, "integer"),
    ("gaussian_filter", (1,), {"axes": object()}, ValueError, errors.ArgumentError, "`axes`"),
    ("laplace", (), {"axes": "x"}, TypeError, errors.ArgumentTypeError, "`axes`"),
    ("correlate1d", ([1, 2],), {"mode": "nearset"}, RuntimeError, errors.ModeError, '"nearest"'),
    ("gaussian_filter", (1,), {"mode": None}, RuntimeError, errors.ModeError, "got None"),
    ("gaussian_filter", (1,), {"mode": ["wrap"]}, RuntimeError, SequenceError, "each of the 2"),
    ("sobel", (), {"mode": ["wrap"] * 3}, RuntimeError, SequenceError, "got 3"),
    ("gaussian_filter", ((1, 2, 3),), {}, RuntimeError, SequenceError, "`sigma`"),
    ("gaussian_filter", (1,), {"order": (1,)}, RuntimeError, SequenceError, "`order`"),
    ("gaussian_filter", (1,), {"radius": (1, 2, 3)}, RuntimeError, SequenceError, "`radius`"),
    ("uniform_filter", ((2,),), {}, RuntimeError, SequenceError, "`size`"),
    ("uniform_filter", (3,), {"origin": (1,)}, RuntimeError, SequenceError, "`origin`"),
    ("correlate", (np.ones((2, 2)),), {"origin": (1,)}, RuntimeError, SequenceError, "`origin`"),
    ("correlate1d", ([1, 2],), {"origin": 3}, ValueError, errors.ArgumentError, "`origin`"),
    ("uniform_filter", (3,), {"origin": 2}, ValueError, errors.ArgumentError, "`origin`"),
    ("uniform_filter1d", (0,), {}, RuntimeError, SizeError, "incorrect filter size"),
    ("uniform_filter1d", (2.5,), {}, TypeError, errors.ArgumentTypeError, "`size` .* 2.5"),
    ("gaussian_filter", (1,), {"order": -1}, ValueError, errors.ArgumentError, "`order`"),
    ("gaussian_filter", (1,), {"order": 1.5}, TypeError, errors.ArgumentTypeError, "`order`"),
    ("gaussian_filter", (1,), {"radius": 2.0}, ValueError, errors.ArgumentError, "`radius`"),
    ("gaussian_filter", (1,), {"radius": -1}, ValueError, errors.ArgumentError, "`radius`"),
    ("gaussian_filter", (1,), {"truncate": -2}, ValueError, errors.ArgumentError, "`truncate`"),
    ("gaussian_filter", (1,), {"truncate": "x"}, TypeError, errors.ArgumentTypeError, "`trunc"),
    ("gaussian_filter", ("x",), {}, TypeError, errors.ArgumentTypeError, "`sigma` .* 'x'"),
    ("gaussian_filter", ((2, -1),), {}, Anything, errors.ArgumentError, "`sigma` .* (2, -1)"),
    ("gaussian_filter", (float("nan"),), {}, Anything, errors.ArgumentError, "got nan"),
    ("gaussian_filter1d", (0,), {}, Anything, errors.ArgumentError, "`sigma` must be > 0"),
    ("gaussian_filter1d", (-1,), {}, (ValueError,), errors.ArgumentError, "`sigma`"),
    ("gaussian_laplace", (1,), {"foo": 1}, TypeError, errors.ArgumentTypeError, "`foo`"),
    ("gaussian_laplace", (1,), {"order": 1}, TypeError, errors.ArgumentTypeError, "`order`"),
    ("generic_laplace", (3,), {}, TypeError, errors.ArgumentTypeError, "`derivative2`"),
    ("generic_gradient_magnitude", (3,), {}, TypeError, errors.ArgumentTypeError, "function"),
    ("correlate1d", ([1, 2],), {"cval": None}, TypeError, errors.ArgumentTypeError, "`cval`"),
    ("correlate1d", ([1, 2j],), {"cval": 1j}, ValueError, errors.ArgumentError, "`cval`"),
    ("correlate1d", ([1, 2],), {"cval": 1j}, TypeError, CvalError, "must be real, as the image is"),
    ("convolve", (np.ones((2, 2)),), {"origin": (0, 1)}, ValueError, errors.ArgumentError, "-1 .. 0"),
    ("convolve", (np.ones((2, 2)),), {"origin": 0.5}, ValueError, OriginError, "integer; got 0.5"),
    ("correlate1d", ([1, 2],), {"origin": 0.5}, ValueError, OriginError, "integer; got 0.5"),
    ("correlate1d", ([1, 2, 3],), {"origin": 0.5}, TypeError, OriginError, "integer; got 0.5"),
    ("uniform_filter1d", (3,), {"origin": -2}, ValueError, errors.ArgumentError, "-1 .. 1"),
    ("correlate", ([1, 2],), {"axes": (0, 0.5)}, TypeError, errors.ArgumentTypeError, "got 0.5"),
    ("laplace", (), {"axes": (0, 0)}, ValueError, errors.ArgumentError, "got (0, 0)"),
    ("prewitt", (), {"mode": "none"}, RuntimeError, errors.ModeError, "must be one of constant"),
    ("laplace", (), {"output": "S3"}, RuntimeError, errors.DTypeError, "`output` must be bool"),
    ("correlate1d", ([1j],), {"output": "f8"}, RuntimeError, errors.OutputError, "got float64"),
    ("correlate1d", ([1j],), {"output": np.zeros((3, 4))}, RuntimeError, errors.OutputError, "float"),
    ("generic_laplace", (identity,), {"extra_arguments": 3}, TypeError, errors.ArgumentTypeError,
     "`extra_arguments` must be a sequence"),
    ("generic_laplace", (identity,), {"extra_keywords": 3}, TypeError, errors.ArgumentTypeError,
     "`extra_keywords` must be a dict"),
    ("generic_laplace", (lambda *given: np.zeros(5),), {}, ValueError, errors.ArgumentError,
     "image's shape (3, 4), or None .* got shape (5,)"),
    ("generic_gradient_magnitude", (lambda *given: "x",), {}, Anything, errors.DTypeError,
     "`result` must be bool"),
    ("laplace", (), {"output": np.zeros((3, 3))}, RuntimeError, errors.OutputError, "(3, 4)"),
    ("laplace", (), {"output": "foo"}, TypeError, errors.DTypeError, "`output`"),
    ("laplace", (), {"output": np.longdouble}, RuntimeError, errors.DTypeError, "float64"),
]  # fmt: skip


def is_on_purpose(trace):
    """Return whether SciPy raises an error by its own statement, so that the words are SciPy's."""
    last = traceback.extract_tb(trace)[-1]
    return "scipy" in last.filename and (last.line or "").startswith("raise")


@pytest.mark.parametrize(
    ("name", "arguments", "options", "theirs", "ours", "text"),
    ERRORS,
    ids=[f"{e[0]}-{k}" for k, e in enumerate(ERRORS)],
)
def test_errors_have_scipys_class_and_say_what_would_do(
    name, arguments, options, theirs, ours, text
):
    pattern = text.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")
    with pytest.raises(ours, match=pattern) as caught:
        call(ndimage, name, IMAGE, *arguments, **options)
    assert isinstance(caught.value, errors.SeparableError)
    older = not set(options) <= set(inspect.signature(getattr(scipy.ndimage, name)).parameters)
    if theirs is Anything or older:  # an older SciPy refuses the argument itself
        return
    with pytest.raises(theirs) as known:
        call(scipy.ndimage, name, IMAGE, *arguments, **options)
    assert isinstance(caught.value, type(known.value))
    if is_on_purpose(known.tb) and theirs not in OTHER_WORDS:
        assert str(known.value).rstrip(".") in str(caught.value)


@pytest.mark.parametrize("name", CALLS)
def test_images_of_no_numbers_are_refused(name):
    for image in (IMAGE.astype(object), IMAGE.astype(np.longdouble), np.array([["a", "b"]])):
        with pytest.raises(RuntimeError, match="`input` must") as caught:
            call(ndimage, name, image)
        assert isinstance(caught.value, errors.DTypeError)


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_leaves_the_output_as_it_was(name):
    out = np.full((3, 4), 7.0)
    arguments = (ndimage.sobel,) if "generic" in name else ()
    with pytest.raises(errors.ModeError):
        call(ndimage, name, IMAGE, *arguments, mode="no such mode", output=out)
    assert (out == 7).all()


# Outputs.


@pytest.mark.parametrize("name", CALLS)
def test_every_way_to_say_output(name):
    exact = call(ndimage, name)
    assert exact.dtype == np.float64
    for given in (float, np.float32, "float32", np.dtype("f4"), "f", complex, "int16", np.uint8):
        result = call(ndimage, name, output=given)
        assert result.dtype == np.dtype(given)
    out = np.zeros((3, 4))
    assert call(ndimage, name, output=out) is out
    np.testing.assert_array_equal(out, exact)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call(ndimage, name, output=out)


@pytest.mark.parametrize("name", [n for n in CALLS if "generic" not in n])
def test_complex_results_need_complex_outputs(name):
    exact = call(ndimage, name, COMPLEX)
    for given in ("float64", np.zeros((3, 4))):
        with pytest.raises(RuntimeError, match="complex dtype"):
            call(ndimage, name, COMPLEX, output=given)
    for given in (float, np.dtype("float64")):
        with pytest.warns(UserWarning, match="promoting"):
            result = call(ndimage, name, COMPLEX, output=given)
        np.testing.assert_array_equal(result, exact)
    single = call(ndimage, name, COMPLEX.astype("complex64"))
    assert single.dtype == np.complex64


def test_complex_results_of_functions_of_the_user_need_complex_outputs():
    for name in ("generic_laplace", "generic_gradient_magnitude"):
        with pytest.raises(RuntimeError, match="complex dtype"):
            call(ndimage, name, COMPLEX, ndimage.sobel, output="float64")
        assert call(ndimage, name, COMPLEX, ndimage.sobel).dtype == np.complex128


def test_functions_of_the_user_may_fill_the_output_or_return_an_array():
    def fills(input, axis, output, mode, cval):
        ndimage.sobel(input, axis, output, mode, cval)

    def returns(input, axis, output, mode, cval):
        return ndimage.sobel(input, axis, float, mode, cval).tolist()

    for name in ("generic_laplace", "generic_gradient_magnitude"):
        exact = call(ndimage, name, IMAGE, ndimage.sobel)
        np.testing.assert_array_equal(call(ndimage, name, IMAGE, fills), exact)
        np.testing.assert_array_equal(call(ndimage, name, IMAGE, returns), exact)


# Plans.


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_a_laplacian_is_one_pass_an_axis(ndim):
    kernel = derivative_filters._laplace_kernel(ndim)
    plan = sep.plan(kernel, (20,) * ndim, operation="correlate")
    flat = next(c for c in plan.candidates if c.name == "low-rank")
    assert (flat.passes, flat.multiplications) == (ndim, 3 * ndim)


def test_a_laplacian_of_gaussian_is_one_plan():
    kernel = derivative_filters._derivatives_kernel(((2.0, 8), (2.0, 8)), 2)
    plan = sep.plan(kernel, (512, 512), "uint8", operation="correlate")
    flat = next(c for c in plan.candidates if c.name == "low-rank")
    assert (flat.rank, flat.passes, flat.multiplications) == (2, 4, 4 * 17)


def test_masks_are_one_pass_an_axis_with_whole_taps():
    kernel = masks._mask_kernel((1, 2, 1), 0, 3)
    plan = sep.plan(kernel, (50, 50, 50), operation="correlate")
    separable = next(c for c in plan.candidates if c.name == "separable")
    assert separable.passes == 3
    assert {int(v) for a in kernel.arrays for v in a.ravel()} == {-1, 0, 1, 2}


def test_kernels_and_plans_are_remembered(monkeypatch):
    made = []

    def counted(*args, **kwargs):
        made.append(args)
        return sep.plan(*args, **kwargs)

    monkeypatch.setattr(filtering, "plan", counted)
    image = np.random.default_rng(0).random((33, 35))
    for name in CALLS:
        call(ndimage, name, image)
        count = len(made)
        for _ in range(3):
            call(ndimage, name, image)
        assert len(made) == count, name
    assert smoothing_filters._gaussian_kernel(((1.0, 0, 4),)) is smoothing_filters._gaussian_kernel(
        ((1.0, 0, 4),)
    )


def test_a_kernel_too_large_to_hold_stays_in_terms():
    taps = np.ones(2000)
    assert isinstance(apply.kernel_of(((taps, taps),)), tuple)
    assert isinstance(apply.kernel_of(((taps[:9], taps[:9]),)), sep.Factors)
    assert apply.kernel_of(((taps,),)) is taps


def test_the_module_is_reached_from_the_package():
    assert sep.ndimage is ndimage
