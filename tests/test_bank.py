"""Banks: every band is the single filter, whatever is shared; and what is shared is counted right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from separable import kernels
from separable.borders import registered_borders
from separable.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    KernelError,
    OutputError,
)
from separable.filter_bank import Bank, wavelet_step
from separable.filter_bank.pass_graph import families, graph_of
from separable.machine import shipped_profiles

pywt = pytest.importorskip("pywt")

MODES = [border.name for border in registered_borders()]
DTYPES = ["float32", "float64", "uint8", "int16", "float16", "bool", "complex64", "int64"]


def sweeps(bank: Bank) -> list[int]:
    """Return the number of bands of each sweep."""
    return [len(group.members) for group in bank.groups if group.graph is not None]


def noise(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    values = np.random.default_rng(seed).standard_normal(shape)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return values > 0
    return (values * 40 + 100).clip(0, 250).astype(dtype) if kind in "iu" else values.astype(dtype)


def product(*vectors: Any) -> sep.Factors:
    letters = "zyx"[-len(vectors) :]
    return sep.Factors.from_terms(f"{letters} -> {','.join(letters)}", [vectors])


@st.composite
def banks(draw: Any) -> dict[str, Any]:
    """Kernels of terms out of few vectors, so that much is shared, on images of up to four axes."""
    count = draw(st.integers(1, 3))
    ndim = draw(st.integers(count, 4))
    axes = tuple(draw(st.permutations(range(ndim)))[:count])
    shape = tuple(draw(st.integers(1, 12 if a in axes else 40)) for a in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    sizes = tuple(draw(st.sampled_from([1, 2, 3, 5])) for _ in range(count))
    pool = [[rng.integers(-3, 4, n).astype(float) for _ in range(3)] for n in sizes]
    for vectors in pool:
        vectors[0][len(vectors[0]) // 2] += 7  # not zero
    found = []
    for _ in range(draw(st.integers(1, 5))):
        dense: Any = 0.0
        for _ in range(draw(st.integers(1, 3))):
            term: Any = rng.choice([1.0, -0.5, 3.0])
            for vectors in pool:
                term = np.multiply.outer(term, vectors[draw(st.integers(0, 2))])
            dense = dense + term
        found.append(dense)
    origin = tuple(0 if n < 3 else draw(st.integers(-1, 1)) for n in sizes)
    return {
        "kernels": found, "shape": shape, "axes": axes, "origin": origin,
        "mode": tuple(draw(st.sampled_from(MODES)) for _ in sizes),
        "cval": draw(st.sampled_from([0.0, 2.5])),
        "operation": draw(st.sampled_from(["convolve", "correlate"])),
    }  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(banks(), st.sampled_from(DTYPES))
def test_each_band_is_the_single_filter(given: dict[str, Any], dtype: str) -> None:
    found, shape = given.pop("kernels"), given.pop("shape")
    image = noise(shape, dtype)
    bank = sep.bank(found, shape, dtype, **given)
    bands = bank(image)
    operation = getattr(sep, given.pop("operation"))
    for kernel, band in zip(found, bands, strict=True):
        wanted = operation(image, kernel, **given)
        assert band.dtype == wanted.dtype
        if np.dtype(dtype).kind in "biu":  # a sum of halves may be rounded to either side
            difference = np.abs(band.astype(float) - wanted.astype(float))
            assert difference.max(initial=0) <= 1
            continue
        eps = np.finfo(np.float16 if dtype == "float16" else bank.problem.work).eps
        size = max(2.5, float(np.abs(image).max(initial=0))) * float(np.abs(kernel).sum())
        limit = 30 * eps * size
        assert np.abs(band.astype(complex) - wanted).max(initial=0) <= limit


@pytest.mark.parametrize("mode", MODES)
def test_a_bank_of_laplacians_against_scipy(mode: str) -> None:
    image = noise((24, 40, 37))
    sigmas = [1, 1.5, 2]
    bank = sep.bank([f"log:{s}" for s in sigmas], image.shape, mode=mode)
    for sigma, band in zip(sigmas, bank(image), strict=True):
        wanted = scipy.ndimage.gaussian_laplace(image, sigma, mode=mode)
        np.testing.assert_allclose(band, wanted, rtol=0, atol=1e-14)


@pytest.mark.compiled
def test_shared_passes_are_counted() -> None:
    shape = (64, 64, 64)
    # The method that is fastest alone, and so its count, depends on the computer.
    (profile,) = (p for p in shipped_profiles() if p.name.startswith("AMD Zen 5"))
    log = sep.bank(["log:1"], shape, "float32", machine=profile)
    (group,) = log.groups
    assert group.graph is not None
    assert group.graph.passes == 7  # not 9
    assert (log.multiplications, log.multiplications_alone) == (63, 81)
    eight = sep.bank(kernels.wavelet_bands("db3"), shape, "float32")
    assert sweeps(eight) == [8]
    assert eight.groups[0].graph.passes == 14  # not 24
    many = sep.bank(kernels.laws_bands(), shape, "float32")
    assert sum(sweeps(many)) == 125
    assert many.multiplications == 775  # 155 passes of 5 taps; 1875 alone
    assert many.multiplications_alone == 1875
    orders = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2), (0, 2, 0), (2, 0, 0)]
    orders += [(0, 1, 1), (1, 0, 1), (1, 1, 0)]
    ten = sep.bank([kernels.gaussian(1.0, order=o) for o in orders], shape, "float32")
    assert sweeps(ten) == [10]
    assert ten.groups[0].graph.passes == 3 + 6 + 10  # not 30
    assert many.seconds < many.seconds_alone


def test_kernels_of_different_size_that_share_nothing_are_apart() -> None:
    bank = sep.bank(["gaussian:1", "gaussian:3", "log:1", "log:3"], (256, 256), "float32")
    assert sorted(sweeps(bank)) in ([2, 2], [])
    assert sorted(k for group in bank.groups for k in group.members) == [0, 1, 2, 3]


def test_the_graph_finds_vectors_up_to_a_factor_and_cancels_terms() -> None:
    a, b = np.array([1.0, 2, 3]), np.array([1.0, 0, -1])
    terms = [[(a, b)], [(2 * a, 3 * b), (a, a)], [(a, b), (-a, b)], [(a, b), (b, b)]]
    graph = graph_of(terms, [(1, 1)] * 4, (0, 1))
    assert len(graph.layers[0].sources) == 2  # a; a + b
    assert [stop - start for start, stop in graph.layers[1].sums] == [1, 2, 0, 1]
    np.testing.assert_array_equal(graph.layers[1].taps[0], b)
    assert families(terms[:1] * 2 + [[(b, b)]], [(1, 1)] * 3, (0, 1)) == [[0, 1, 2]]
    nearly = [[(a, b)], [(a * (1 + np.array([0, 1e-11, 0])), b)]]
    assert len(graph_of(nearly, [(1, 1)] * 2, (0, 1)).layers[0].sources) == 2


def test_dense_kernels_and_kernels_of_zeros_stand_beside_the_others() -> None:
    image = noise((40, 50), "float32")
    given = {
        "disk": kernels.disk(3) / 29,
        "nothing": np.zeros((3, 3)),
        "one": np.array([[2.0]]),
        "smooth": "gaussian:1",
        "along": "gaussian:1,order=0x1",
    }
    bank = sep.bank(given, image.shape, "float32")
    bands = dict(zip(bank.names, bank(image), strict=True))
    assert not bands["nothing"].any()
    np.testing.assert_array_equal(bands["one"], 2 * image)
    for name in ("disk", "smooth"):
        kernel = given[name] if name == "disk" else kernels.gaussian(1)
        np.testing.assert_allclose(bands[name], sep.convolve(image, kernel), atol=2e-6)


@pytest.mark.compiled
def test_a_nan_stays_within_each_kernel() -> None:
    image = np.zeros((20, 20, 40))
    image[10, 10, 20] = np.nan
    radii = [1, 2, 3]
    bank = sep.bank(
        [kernels.laplacian_of_gaussian(1, ndim=3, radius=r) for r in radii], image.shape
    )
    for radius, band in zip(radii, bank(image), strict=True):
        assert np.isnan(band).sum() == (2 * radius + 1) ** 3


def test_any_strides_outputs_and_progress() -> None:
    image = noise((30, 40, 33), "float32")
    bank = sep.bank(kernels.wavelet_bands("db2"), image.shape, "float32")
    wanted = bank(image)
    np.testing.assert_array_equal(bank(np.asfortranarray(image)), wanted)
    np.testing.assert_array_equal(bank(image.astype(">f4").astype("f4")), wanted)
    told: list[float] = []
    spread = np.empty((8, 30, 40, 66), "float32")[..., ::2]
    assert bank(image, spread, progress=told.append) is spread
    np.testing.assert_array_equal(spread, wanted)
    assert sum(told) == pytest.approx(1)
    over = np.zeros((8, 30, 40, 33), "float32")
    over[3] = image
    np.testing.assert_array_equal(bank(over[3], over), wanted)
    upside = np.empty_like(wanted)
    bank(image, upside[::-1])
    np.testing.assert_array_equal(upside[::-1], wanted)
    assert bank(image, wanted) is wanted
    assert sep.bank(["gaussian:1"], (0, 4))(np.empty((0, 4))).shape == (1, 0, 4)


def test_other_output_types_are_rounded_once() -> None:
    image = noise((33, 40), "uint8")
    specs = ["gaussian:1", "log:1", "gaussian:1,order=1x0"]
    for output in ("uint8", "int16", "int64", "float16", "float64", "bool"):
        bands = sep.bank(specs, image.shape, "uint8", output=output)(image)
        for spec, band in zip(specs, bands, strict=True):
            wanted = sep.convolve(image, kernels.parse_spec(spec, 2), output=output)
            assert band.dtype == wanted.dtype
            ulp = 1e-3 if output == "float16" else 1e-6
            np.testing.assert_allclose(band.astype(float), wanted.astype(float), ulp, 1e-3)


def test_complex_kernels_make_all_bands_complex() -> None:
    image = noise((20, 21))
    wave = np.exp(1j * np.arange(5))
    bank = sep.bank([product(wave, wave), "gaussian:1"], image.shape)
    assert bank(image).dtype == np.complex128
    np.testing.assert_allclose(bank(image)[0], sep.convolve(image, product(wave, wave)))
    np.testing.assert_allclose(bank(image)[1], sep.convolve(image, kernels.gaussian(1)))


@pytest.mark.compiled
def test_no_memory_is_read_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from separable.engine.compiled import thread_pool

    monkeypatch.setattr(thread_pool, "poison", True)  # scratch memory full of NaN
    image = noise((23, 37, 45), "float32")
    for kernels_given in (kernels.laws_bands(), {"log": "log:1"}, kernels.wavelet_bands("db2")):
        bank = sep.bank(kernels_given, image.shape, "float32")
        assert np.isfinite(bank(image, np.full(bank.shape, np.nan, "float32"))).all()


def test_threads_do_not_change_the_result() -> None:
    image = noise((64, 65, 66), "float32")
    results = [
        sep.bank(["log:1", "gaussian:1"], image.shape, "float32", threads=n)(image)
        for n in (1, 2, 3)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


PRINTED = """\
bank of 4 kernels on 64x512x512 float32, axes 1,2, reflect, exact, 2 threads
band  kernel  mult/out alone  own passes  shared  runs in
─────────────────────────────────────────────────────────
LL    2x2                  4           1       1  sweep 1
LH    2x2                  4           1       1  sweep 1
HL    2x2                  4           1       1  sweep 1
HH    2x2                  4           1       1  sweep 1
Sweep 1: 4 bands, passes along y 2, x 4; 12 multiplications instead of 16.
In all 12 multiplications per sample instead of 16; predicted"""


@pytest.mark.compiled
def test_the_table() -> None:
    bands = kernels.wavelet_bands("haar", ndim=2)
    # On another computer it may be faster to filter kernel by kernel.
    (profile,) = (p for p in shipped_profiles() if p.name.startswith("AMD Zen 5"))
    bank = sep.bank(bands, (64, 512, 512), "float32", axes=(1, 2), threads=2, machine=profile)
    assert str(bank).startswith(PRINTED)
    assert max(map(len, str(bank).splitlines())) <= 80
    assert repr(bank).startswith("<Bank of 4 kernels on (64, 512, 512) float32: predicted ")
    many = str(sep.bank(kernels.laws_bands(), (64, 64, 64), "float32"))
    assert "... and 105 more bands" in many
    assert max(map(len, many.splitlines())) <= 80


@pytest.mark.parametrize("name", ["haar", "db2", "coif1", "bior2.2"])
def test_the_undecimated_step_is_that_of_pywavelets(name: str) -> None:
    image = noise((8, 12, 10))
    bank = sep.bank(kernels.wavelet_bands(name), image.shape, mode="wrap")
    bands = dict(zip(bank.names, bank(image), strict=True))
    (wanted,) = pywt.swtn(image, name, level=1)
    for letters, values in wanted.items():
        ours = bands[letters.replace("a", "L").replace("d", "H")]
        np.testing.assert_allclose(ours, values, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("mode", "theirs"),
    [
        ("reflect", "symmetric"),
        ("mirror", "reflect"),
        ("nearest", "constant"),
        ("wrap", "periodic"),
        ("constant", "zero"),
    ],
)
@pytest.mark.parametrize("name", ["haar", "db2", "coif1", "bior2.2"])
def test_the_decimated_step_is_that_of_pywavelets(name: str, mode: str, theirs: str) -> None:
    image = noise((9, 12, 5))
    bands = wavelet_step(image, name, mode=mode)
    for letters, values in pywt.dwtn(image, name, mode=theirs).items():
        ours = bands[letters.replace("a", "L").replace("d", "H")]
        np.testing.assert_allclose(ours, values, rtol=0, atol=1e-13)
    along = wavelet_step(image.astype("float32"), name, mode=mode, axes=-2)
    low, high = pywt.dwt(image.astype("float32"), name, mode=theirs, axis=-2)
    np.testing.assert_allclose(along["L"], low, rtol=0, atol=1e-5)
    np.testing.assert_allclose(along["H"], high, rtol=0, atol=1e-5)
    assert along["L"].dtype == np.float32


def test_the_taps_known_here_are_those_of_pywavelets() -> None:
    for name in ("haar", "db1", "db2"):
        low, high = kernels.wavelet1d(name)
        np.testing.assert_allclose(low, pywt.Wavelet(name).dec_lo, rtol=0, atol=1e-15)
        np.testing.assert_allclose(high, pywt.Wavelet(name).dec_hi, rtol=0, atol=1e-15)


def test_laws_kernels() -> None:
    image = noise((20, 21, 22))
    kernel = kernels.parse_spec("laws:L5E5S5")
    wanted = image
    for axis, taps in enumerate(([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1], [-1, 0, 2, 0, -1])):
        wanted = scipy.ndimage.correlate1d(wanted, taps, axis)
    np.testing.assert_allclose(sep.correlate(image, kernel), wanted, rtol=0, atol=1e-11)
    unit = kernels.parse_spec("laws:L3E5R5,normalised=true")
    assert all(np.linalg.norm(v) == pytest.approx(1) for v in unit.terms[0])
    assert kernels.parse_spec("wavelet:db2,LLH").shape == (4, 4, 4)


def test_mistakes_are_named() -> None:
    shape = (8, 9)
    with pytest.raises(ArgumentTypeError, match="must be a list of kernels or a mapping of names"):
        sep.bank("gaussian:2", shape)
    with pytest.raises(ArgumentError, match="`kernels` must hold at least one kernel; got none"):
        sep.bank([], shape)
    with pytest.raises(ArgumentError, match="`kernels` must be different; got 'box:3' twice"):
        sep.bank(["box:3", "box:3"], shape)
    with pytest.raises(ArgumentTypeError, match="`kernels` must be named by strings; got 3"):
        sep.bank({3: "box:3"}, shape)
    with pytest.raises(ArgumentError, match="kernel 'bax:3' of the bank: unknown kernel `bax`"):
        sep.bank(["bax:3"], shape)
    with pytest.raises(KernelError, match="kernel 'deep' of the bank: the kernel has more axes"):
        sep.bank({"deep": np.ones((3, 3, 3))}, shape)
    bank = sep.bank(["box:3"], shape)
    with pytest.raises(ArgumentError, match=r"this bank is for shape \(8, 9\), float64; got shape"):
        bank(np.zeros((9, 8)))
    with pytest.raises(OutputError, match=r"`out` must have shape \(1, 8, 9\), the bands first"):
        bank(np.zeros(shape), np.zeros(shape))
    with pytest.raises(OutputError, match="`out` must have dtype float64; got float32"):
        bank(np.zeros(shape), np.zeros((1, 8, 9), "float32"))
    with pytest.raises(ArgumentTypeError, match="`out` must be an ndarray; got list"):
        bank(np.zeros(shape), [])  # type: ignore[arg-type]
    fixed = np.zeros((1, 8, 9))
    fixed.flags.writeable = False
    with pytest.raises(OutputError, match="`out` is read-only"):
        bank(np.zeros(shape), fixed)
    with pytest.raises(ArgumentError, match="one of PyWavelets' discrete wavelets"):
        kernels.wavelet("db99", "LH")
    with pytest.raises(ArgumentError, match="`bands` must be L or H for each axis"):
        kernels.wavelet("haar", "LX")
    with pytest.raises(ArgumentError, match="`bands` must be one letter per axis, 3 of them"):
        kernels.wavelet("haar", "LH", ndim=3)
    with pytest.raises(ArgumentError, match="`vectors` must be names out of L3, E3, S3, L5"):
        kernels.laws("L5Q5")
    with pytest.raises(ArgumentError, match="`vectors` must be one name per axis, 3 of them"):
        kernels.laws("L5E5", ndim=3)
    with pytest.raises(DTypeError, match="`image` must hold numbers"):
        wavelet_step(np.array(["a"]), "haar")


def test_without_pywavelets_three_wavelets_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pywt", None)
    assert kernels.wavelet("db2", "LL").shape == (4, 4)
    with pytest.raises(ArgumentError, match=r"unless PyWavelets is installed; got 'sym7'"):
        kernels.wavelet("sym7", "LL")
