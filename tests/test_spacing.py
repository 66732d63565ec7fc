"""Physical spacing: kernels, ndimage and texts, against ITK, coordinates and definitions."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as scipy_ndimage

import separable as sep
from separable import kernels, ndimage
from separable.errors import ArgumentError, ArgumentTypeError
from separable.kernels.parse import parse_spec
from separable.kernels.units import read_lengths, unit_of

RNG = np.random.default_rng(11)
VOLUME = RNG.normal(size=(11, 14, 15))
STEPS = (3.0, 1.0, 0.8)
IN_SAMPLES = {"binomial", "laws", "wavelet"}  # kernels that know no lengths


def dense(kernel):
    return kernel.dense() if isinstance(kernel, sep.Factors) else kernel


# Kernels: the same shape in samples, derivatives over the spacing.


@pytest.mark.parametrize("order", [0, 1, 2, (1, 0, 2), (4, 3, 0)])
def test_a_gaussian_is_that_of_its_width_in_samples(order):
    found = kernels.gaussian(4.0, order=order, spacing=STEPS).dense()
    orders = np.broadcast_to(order, 3)
    plain = kernels.gaussian(tuple(4 / h for h in STEPS), order=order).dense()
    scale = np.prod([h**n for h, n in zip(STEPS, orders, strict=True)])
    np.testing.assert_allclose(found, plain / scale, rtol=1e-13)


@pytest.mark.parametrize("make", [kernels.sobel, kernels.prewitt, kernels.scharr])
def test_a_mask_gives_the_slope_per_unit(make):
    for axis in range(3):
        slope = np.zeros(3)
        slope[axis] = 2.5
        ramp = sum(s * h * g for s, h, g in zip(slope, STEPS, np.mgrid[:5, :5, :5], strict=True))
        unit = sum(g * (k == axis) for k, g in enumerate(np.mgrid[:5, :5, :5]))
        found = sep.correlate(ramp, make(axis, spacing=STEPS))[2, 2, 2]
        weight = sep.correlate(unit.astype(float), make(axis, ndim=3))[2, 2, 2]
        assert found == pytest.approx(2.5 * weight)


def test_a_central_difference_is_numpys_gradient():
    for axis, step in enumerate(STEPS):
        found = sep.correlate(VOLUME, kernels.central_difference(axis, spacing=STEPS))
        inner = (slice(1, -1),) * 3
        expected = np.gradient(VOLUME, step, axis=axis)
        np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-12, atol=1e-14)


def test_laplacians_divide_each_term_by_its_own_square():
    z, y, x = (h * (g - 4.0) for h, g in zip(STEPS, np.mgrid[:9, :9, :9], strict=True))
    bowl = 1.5 * z**2 + 0.25 * y**2 - 3 * x**2
    assert sep.correlate(bowl, kernels.laplace(spacing=STEPS))[4, 4, 4] == pytest.approx(-2.5)
    narrow = kernels.laplacian_of_gaussian(1.5, spacing=STEPS)
    parts = [
        kernels.gaussian(1.5, order=[2 * (k == a) for k in range(3)], spacing=STEPS).dense()
        for a in range(3)
    ]
    np.testing.assert_allclose(narrow.dense(), sum(parts), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("spacing", [(3, 1), (0.5, 2), 0.7])
def test_disks_and_balls_are_those_of_the_plane(spacing):
    dy, dx = np.broadcast_to(spacing, 2)
    found = kernels.disk(6, spacing=spacing)
    ry, rx = (n // 2 for n in found.shape)
    y, x = np.mgrid[-ry - 2 : ry + 3, -rx - 2 : rx + 3]
    expected = (y * dy) ** 2 + (x * dx) ** 2 <= 36
    np.testing.assert_array_equal(np.pad(found, 2), expected)
    ball = kernels.ball(6, spacing=(2, dy, dx))
    np.testing.assert_array_equal(ball[3], found)


def test_a_radius_of_whole_samples_is_not_lost_to_rounding():
    assert kernels.disk(0.3, spacing=0.1).shape == (7, 7)
    np.testing.assert_array_equal(kernels.disk(0.3, spacing=0.1), kernels.disk(3))


@pytest.mark.parametrize("spacing", [(2.0, 1.0), (0.5, 0.75)])
def test_a_pillbox_is_the_area_of_each_pixel_in_the_circle(spacing):
    found = kernels.pillbox(4.3, spacing=spacing)
    fine = 200
    sub = (np.arange(fine) + 0.5) / fine - 0.5
    axes = [
        h * np.add.outer(np.arange(n) - n // 2, sub).ravel()
        for n, h in zip(found.shape, spacing, strict=True)
    ]
    inside = np.add.outer(axes[0] ** 2, axes[1] ** 2) <= 4.3**2
    counted = inside.reshape(found.shape[0], fine, found.shape[1], fine).sum((1, 3))
    np.testing.assert_allclose(found, counted / counted.sum(), atol=2e-5)


def test_gabor_waves_and_motion_run_in_the_plane():
    dy, dx = 2.0, 0.5
    for gamma in (1.0, 0.6):
        found = dense(kernels.gabor(9, 0.6, gamma=gamma, sigma=4, phase=0.3, spacing=(dy, dx)))
        ry, rx = (n // 2 for n in found.shape)
        y, x = dy * np.arange(-ry, ry + 1)[:, None], dx * np.arange(-rx, rx + 1)
        u, v = x * np.cos(0.6) + y * np.sin(0.6), y * np.cos(0.6) - x * np.sin(0.6)
        bell = np.exp(-(u**2 + gamma**2 * v**2) / 32)
        wave = bell / bell.sum() * np.cos(2 * np.pi * u / 9 + 0.3)
        np.testing.assert_allclose(found, wave, rtol=1e-9, atol=1e-12)
    path = kernels.motion(10, np.pi / 4, spacing=(1, 2))
    expected = kernels.motion(np.hypot(10, 5) / 2**0.5, np.arctan2(10, 5))
    np.testing.assert_allclose(path, expected, atol=1e-12)


@given(
    st.sampled_from(sorted({k.name for k in kernels.registered_kernels()} - IN_SAMPLES)),
    st.floats(0.05, 20.0),
    st.integers(1, 3),
)
def test_lengths_and_spacing_times_a_factor_change_derivatives_alone(name, factor, width):
    """A unit of length is a convention: smoothing does not change, order n by factor ** -n."""
    orders = dict.fromkeys(("sobel", "prewitt", "scharr", "central_difference"), 1)
    orders |= {"laplace": 2, "laplacian_of_gaussian": 2}
    make = getattr(kernels, name)
    steps = 3 if name == "ball" else 2
    spacing = np.array([1.0, 0.5, 0.25])[:steps]
    length = [] if orders.get(name, 0) == 1 or name == "laplace" else [width]
    one = make(*length, spacing=tuple(spacing))
    other = make(*(factor * n for n in length), spacing=tuple(factor * spacing))
    expected = dense(one) / factor ** orders.get(name, 0)
    np.testing.assert_allclose(dense(other), expected, rtol=1e-7, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize(
    "name", sorted({k.name for k in kernels.registered_kernels()} - IN_SAMPLES)
)
def test_a_spacing_of_1_changes_nothing(name):
    make = getattr(kernels, name)
    required = [
        5
        for p in inspect.signature(make).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and (p.default is p.empty or p.name == "sigma")
    ]
    np.testing.assert_array_equal(dense(make(*required, spacing=1)), dense(make(*required)))


BAD = [
    (0, ArgumentError, "`spacing` must be > 0 for every axis, the distance between the centres of "
     "neighbours; got 0. Leave it out to measure in samples"),
    ((1, -1), ArgumentError, "`spacing` must be > 0 for every axis, the distance between the "
     "centres of neighbours; got (1, -1). Leave it out to measure in samples"),
    (np.nan, ArgumentError, "`spacing` must be finite; got nan"),
    ("2mm", ArgumentTypeError, "`spacing` must be a number; got '2mm'"),
]  # fmt: skip


@pytest.mark.parametrize(("spacing", "kind", "message"), BAD)
def test_a_bad_spacing_says_what_would_do(spacing, kind, message):
    calls = [
        lambda: kernels.gaussian(1, spacing=spacing),
        lambda: kernels.sobel(spacing=spacing),
        lambda: kernels.disk(3, spacing=spacing),
        lambda: kernels.box(3, spacing=spacing),
        lambda: ndimage.gaussian_filter(VOLUME[0], 1, spacing=spacing),
        lambda: ndimage.sobel(VOLUME[0], spacing=spacing),
        lambda: ndimage.laplace(VOLUME[0], spacing=spacing),
        lambda: ndimage.uniform_filter(VOLUME[0], 3, spacing=spacing),
    ]
    for call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == message


def test_a_spacing_of_another_number_of_axes_is_refused():
    for call, text in [
        (lambda: kernels.gaussian((1, 1, 1), spacing=(1, 2)), "each of 3 axes (from `sigma`)"),
        (lambda: kernels.sobel(ndim=3, spacing=(1, 2)), "each of 3 axes (from `ndim`)"),
        (lambda: kernels.disk(3, spacing=(1, 2, 3)), "each of the 2 axes; got 3: (1, 2, 3)"),
        (lambda: ndimage.gaussian_filter(VOLUME, 1, spacing=(1, 2)), "each of the 3 filtered"),
    ]:
        with pytest.raises(ArgumentError, match="`spacing` must be one") as caught:
            call()
        assert text in str(caught.value)


def test_a_box_is_whole_samples_or_an_error():
    assert kernels.box(9, spacing=(3, 1, 1)).shape == (3, 9, 9)
    assert kernels.box1d(0.3, spacing=0.1).shape == (3,)
    with pytest.raises(ArgumentError) as caught:
        kernels.box(10, spacing=(3, 1, 1))
    assert str(caught.value) == (
        "`size` must be a whole number of samples, at least 1; got 10, which is 3.33333 of 3. "
        "Take 9 or 12"
    )


# ndimage: SciPy with the numbers in samples.


@pytest.mark.parametrize("order", [0, 1, (0, 2, 1), 5])
def test_gaussian_filter(order):
    found = ndimage.gaussian_filter(VOLUME, 2.0, order, spacing=STEPS)
    inner = tuple(2.0 / h for h in STEPS)
    scale = np.prod([h**n for h, n in zip(STEPS, np.broadcast_to(order, 3), strict=True)])
    expected = scipy_ndimage.gaussian_filter(VOLUME, inner, order) / scale
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


def test_the_other_filters():
    line = ndimage.gaussian_filter1d(VOLUME, 2.0, 1, order=2, spacing=0.5)
    expected = scipy_ndimage.gaussian_filter1d(VOLUME, 4.0, 1, order=2) * 4
    np.testing.assert_allclose(line, expected, atol=1e-12)
    for axis in range(3):
        for name in ("sobel", "prewitt"):
            found = getattr(ndimage, name)(VOLUME, axis, spacing=STEPS)
            expected = getattr(scipy_ndimage, name)(VOLUME, axis) / STEPS[axis]
            np.testing.assert_allclose(found, expected, atol=1e-12)
    seconds = [scipy_ndimage.correlate1d(VOLUME, [1, -2, 1], a) / STEPS[a] ** 2 for a in range(3)]
    np.testing.assert_allclose(ndimage.laplace(VOLUME, spacing=STEPS), sum(seconds), atol=1e-11)
    box = ndimage.uniform_filter(VOLUME, (9, 3, 4), spacing=STEPS)
    np.testing.assert_allclose(box, scipy_ndimage.uniform_filter(VOLUME, (3, 3, 5)), atol=1e-13)
    row = ndimage.uniform_filter1d(VOLUME, 2.4, spacing=0.8)
    np.testing.assert_allclose(row, scipy_ndimage.uniform_filter1d(VOLUME, 3), atol=1e-13)


def test_axes_and_spacing_belong_together():
    both = ndimage.gaussian_laplace(VOLUME, 2.0, axes=(2, 0), spacing=(0.8, 3.0))
    parts = [
        ndimage.gaussian_filter(VOLUME, 2.0, order, axes=(0, 2), spacing=(3.0, 0.8))
        for order in ((2, 0), (0, 2))
    ]
    np.testing.assert_allclose(both, sum(parts), atol=1e-12)


# ITK.


@pytest.fixture(scope="module")
def itk():
    sitk = pytest.importorskip("SimpleITK")
    smooth = scipy_ndimage.gaussian_filter(RNG.normal(size=(26, 44, 46)), (1.5, 3, 3))
    image = sitk.GetImageFromArray(smooth / smooth.std())
    image.SetSpacing(STEPS[::-1])
    return sitk, image, sitk.GetArrayFromImage(image)


INNER = (slice(9, -9), slice(14, -14), slice(15, -15))  # ITK goes on outside in its own way


def close(found, expected, part):
    """Within a part of the largest value: ITK's recursions and Bessel weights are no samples."""
    expected = expected[INNER]
    assert np.abs(found[INNER] - expected).max() <= part * np.abs(expected).max()


def test_smoothing_is_itks(itk):
    sitk, image, array = itk
    ours = ndimage.gaussian_filter(array, 5.0, mode="nearest", spacing=STEPS, truncate=6)
    close(ours, sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, 5.0)), 0.02)
    discrete = sitk.DiscreteGaussianImageFilter()
    discrete.SetUseImageSpacing(True)
    discrete.SetVariance(25.0)
    discrete.SetMaximumError(1e-5)
    discrete.SetMaximumKernelWidth(200)
    close(ours, sitk.GetArrayFromImage(discrete.Execute(image)), 0.02)
    per_pixel = ndimage.gaussian_filter(array, 5.0, mode="nearest", truncate=6)
    with pytest.raises(AssertionError):  # the spacing makes the difference
        close(per_pixel, sitk.GetArrayFromImage(discrete.Execute(image)), 0.1)


def test_gradients_and_laplacians_are_itks(itk):
    sitk, image, array = itk
    options = {"mode": "nearest", "spacing": STEPS, "truncate": 6}
    magnitude = sitk.GetArrayFromImage(sitk.GradientMagnitudeRecursiveGaussian(image, 5.0))
    close(ndimage.gaussian_gradient_magnitude(array, 5.0, **options), magnitude, 0.02)
    laplacian = sitk.GetArrayFromImage(sitk.LaplacianRecursiveGaussian(image, 5.0))
    close(ndimage.gaussian_laplace(array, 5.0, **options), laplacian, 0.02)
    plain = sitk.GetArrayFromImage(sitk.Laplacian(image, True))
    close(ndimage.laplace(array, spacing=STEPS), plain, 1e-12)
    for axis in range(3):
        slope = sitk.GetArrayFromImage(sitk.Derivative(image, 2 - axis, 1, True))
        close(sep.correlate(array, kernels.central_difference(axis, spacing=STEPS)), slope, 1e-12)


def test_itks_recursion_and_second_derivative_divide_less_than_its_gradient_does(itk):
    """`docs/why.md` is right about ITK: these two are the exceptions to its own rule."""
    sitk, image, array = itk
    first = sitk.GetArrayFromImage(
        sitk.RecursiveGaussian(image, 5.0, False, sitk.RecursiveGaussianImageFilter.FirstOrder, 2)
    )
    ours = ndimage.gaussian_filter1d(array, 5.0, 0, 1, mode="nearest", spacing=3, truncate=6)
    close(3.0 * ours, first, 0.02)
    second = sitk.GetArrayFromImage(sitk.Derivative(image, 2, 2, True))
    close(3.0 * ndimage.laplace(array, axes=0, spacing=3), second, 1e-12)


# Texts.


@pytest.mark.parametrize(
    ("text", "spacing", "unit", "expected"),
    [
        ("gaussian:2mm", (3, 1, 1), "mm", kernels.gaussian(2, spacing=(3, 1, 1))),
        ("gaussian:2000um", (3, 1, 1), "millimeter", kernels.gaussian(2, spacing=(3, 1, 1))),
        ("gaussian:3mmx1mmx500µm", (3, 1, 1), "mm", kernels.gaussian((1, 1, 0.5))),
        ("gaussian:3x1x1mm", (3, 1, 1), "mm", kernels.gaussian(1, ndim=3)),
        ("gaussian:2px", (3, 1), "mm", kernels.gaussian(2)),
        ("gaussian:2pxx1px", None, "", kernels.gaussian((2, 1))),
        ("gaussian:2", (2, 1), "", kernels.gaussian((1, 2))),
        ("gaussian:2um,order=1", (2, 1), "um", kernels.gaussian(2, order=1, spacing=(2, 1))),
        ("log:1.5um", 0.5, "micron", kernels.laplacian_of_gaussian(1.5, spacing=0.5)),
        ("dog:1mm,2mm", 0.5, "mm", kernels.difference_of_gaussians(2, 4)),
        ("disk:1cm", (5, 2), "mm", kernels.disk(10, spacing=(5, 2))),
        ("box:9mm", (3, 1), "mm", kernels.box((3, 9))),
        ("sobel", (3, 1), "mm", kernels.sobel(spacing=(3, 1))),
        ("binomial:5", (3, 1), "mm", kernels.binomial(5)),
        ("gabor:8nm,45deg,sigma=2nm", 2, "nm", kernels.gabor(4, np.pi / 4, sigma=1)),
    ],
)
def test_specs_with_units(text, spacing, unit, expected):
    found = parse_spec(text, spacing=spacing, unit=unit)
    assert type(found) is type(expected)
    np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("gaussian:2mm", {}, "kernel `gaussian:2mm` is in mm, and the image's spacing is not known."
         " Say how far apart its samples are, as --spacing 3x1x1mm (spacing=(3, 1, 1), "
         'unit="mm"), or write lengths in px'),
        ("gaussian:2mm", {"spacing": (3, 1)}, "kernel `gaussian:2mm` is in mm, and the image's "
         "spacing (3, 1) has no unit of length. Name it, as --spacing 3x1x1mm (unit=\"mm\"), or "
         "write lengths without units"),
        ("gaussian:2mm", {"spacing": 1, "unit": "furlong"},
         "`unit` must be one of km, m, cm, mm, um, nm, A, pm; got 'furlong'"),
        ("gabor:8mm,sigma=3", {"spacing": 1, "unit": "mm"}, "all lengths of a kernel must have "
         "units, or none of them, or all be in px; got wavelength=8mm and sigma=3"),
        ("gaussian:2inch", {}, "`sigma` of kernel `gaussian` must be a number, or one per axis as "
         "2x1x1; got '2inch'"),
        ("binomial:5mm", {"spacing": 1, "unit": "mm"}, "`size` of kernel `binomial` must be a "
         "whole number, or one per axis as 5x3x3 without a unit; got '5mm'"),
    ],
)  # fmt: skip
def test_bad_units_say_what_would_do(text, options, message):
    with pytest.raises(ArgumentError) as caught:
        parse_spec(text, **options)
    assert str(caught.value) == message


@given(st.floats(1e-3, 1e3), st.sampled_from(["m", "cm", "mm", "um", "nm"]))
def test_units_convert_there_and_back(value, unit):
    powers = {"m": 0, "cm": -2, "mm": -3, "um": -6, "nm": -9}
    for other, power in powers.items():
        found = read_lengths(f"{value!r}{unit}").within(other)
        assert found == pytest.approx(value * 10.0 ** (powers[unit] - power), rel=1e-14)


def test_units_are_read_as_files_spell_them():
    spelled = {"Micron": "um", "μm": "um", "\u00b5m": "um", "Millimeters": "mm", "pixels": "px"}
    assert {name: unit_of(name) for name in spelled} == spelled
    assert unit_of("sec") == unit_of("") == ""


# The command line.


def run(*arguments):
    from separable.cli import run as command

    return command(arguments)


def test_filter_takes_the_spacing_of_the_command_line(tmp_path, capsys):
    np.save(tmp_path / "in.npy", VOLUME)
    done = run("filter", f"{tmp_path}/in.npy", f"{tmp_path}/out.npy", "-k", "gaussian:2mm",
               "--spacing", "3x1x0.8mm")  # fmt: skip
    assert done == 0
    assert "Spacing: 3x1x0.8 mm (of --spacing)." in capsys.readouterr().out
    expected = ndimage.gaussian_filter(VOLUME, 2.0, spacing=STEPS)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-13)


def test_filter_takes_a_files_spacing_only_for_texts_with_units(tmp_path, capsys, monkeypatch):
    import dataclasses

    import separable.cli.filter_command as room

    def read(path, *rest, **options):
        array, info = real(path, *rest, **options)
        return array, dataclasses.replace(info, spacing=STEPS, unit="mm")

    real = room.read_image
    monkeypatch.setattr(room, "read_image", read)
    np.save(tmp_path / "in.npy", VOLUME)
    for text, spacing in (("gaussian:2mm", STEPS), ("gaussian:2", None)):
        done = run("filter", f"{tmp_path}/in.npy", f"{tmp_path}/out.npy", "-k", text, "--force")
        assert done == 0
        assert ("Spacing: 3x1x0.8 mm" in capsys.readouterr().out) is (spacing is not None)
        expected = ndimage.gaussian_filter(VOLUME, 2.0, spacing=spacing)
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-k", "gaussian:2mm"], "the image's spacing is not known"),
        (["-k", "gaussian:2mm", "--spacing", "3x1"], "must be one value, or one for each of"),
        (["-k", "gaussian:2mm", "--spacing", "0x1x1mm"], "`--spacing` must be > 0"),
        (["-k", "gaussian:2mm", "--spacing", "3x1x1"], "has no unit of length"),
        (["-k", "gaussian:2mm", "--spacing", "wide"], "`--spacing` must be lengths such as"),
        (["-k", "disk:3mm", "--spacing", "3x1x1mm"], "has 2 axes; got 3 to filter"),
    ],
)
def test_plan_refuses(arguments, text, capsys):
    assert run("plan", "-s", "20x30x40", *arguments) == 2
    assert text in capsys.readouterr().err


def test_plan_and_kernel_take_spacing(capsys):
    assert run("plan", "-s", "20x30x40", "-k", "gaussian:2mm", "--spacing", "3x1x1mm") == 0
    assert capsys.readouterr().out.startswith("correlate 7x17x17 on 20x30x40")
    assert run("plan", "-s", "20x30x40", "-k", "disk:3mm", "--axes", "0,2", "--spacing",
               "3x9x1mm") == 0  # fmt: skip
    assert capsys.readouterr().out.startswith("correlate 3x7 on 20x30x40")
    assert run("kernel", "gaussian:2um", "--spacing", "2x1um") == 0
    assert capsys.readouterr().out.startswith("gaussian:2um: 9x17, sum 1")
    assert run("kernel", "gaussian:2um", "--ndim", "1", "--spacing", "2um") == 0
    assert "9 taps" in (shown := capsys.readouterr().out) or ": 9, sum 1" in shown
