"""The rates of this computer without `separable machine`: choice of a profile, the probe, and its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from cpu_limit import least_cpu_seconds
from separable import machine
from separable.engine import METHODS
from separable.engine.compile_ahead import warmup
from separable.machine import Machine, Primitives, this_machine, vector_width
from separable.machine.primitives import COMPILED, measure_with_numpy
from separable.system import processor_name

NAMES = [f.name for f in fields(Primitives)]
COMPLETE = Primitives(*[1e-10] * len(NAMES))
SOME = Primitives(numpy_call=1e-6, scalar=4e-10, convert=2e-10)
RATES = {"fused": {"float32": {"tap": 4e-12, "call": 2e-6, "plane": 1e-10}}}
SCALES = {"fused": {"tap": "fma", "call": "numpy_call"}}
AVX2 = "+avx,+avx2,+f16c,+fma"


def profile(
    bits: int, processor: str, primitives: Primitives = COMPLETE, **options: Any
) -> Machine:
    return Machine(
        f"{processor}, {bits}", 2, RATES, "shipped", primitives, SCALES, bits, processor, **options
    )


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Use an empty cache folder; nothing is known of this computer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known = dict(this_machine._known)
    machine.forget()
    yield machine.cache_path().parent
    machine.forget()
    this_machine._known.update(known)


# The nearest profile


def test_vectors_of_the_same_width_come_first() -> None:
    listed = [profile(512, "AMD"), profile(256, "Intel"), profile(128, "AMD")]
    for bits in (128, 256, 512):
        for here in (SOME, COMPLETE):
            assert machine.nearest(listed, bits, "AMD", here).vector_bits == bits
    assert machine.nearest(listed[:1], 128, "AMD", SOME).vector_bits == 512


def test_the_vendor_decides_until_the_engine_has_measured() -> None:
    listed = [profile(512, "AMD"), profile(512, "Intel", replace(COMPLETE, folded_fma=2e-10))]
    assert machine.nearest(listed, 512, "Intel", SOME).processor == "Intel"
    assert machine.nearest(listed, 512, "AMD", SOME).processor == "AMD"
    assert machine.nearest(listed, 512, "", SOME).processor == "AMD"
    slow_additions = replace(COMPLETE, folded_fma=1.9e-10)
    assert machine.nearest(listed, 512, "AMD", slow_additions).processor == "Intel"
    assert machine.nearest(listed, 512, "Intel", COMPLETE).processor == "AMD"
    # A profile with few primitives is no nearer for that.
    sparse = profile(512, "AMD, sparse", Primitives(scalar=1e-10))
    assert machine.nearest([*listed, sparse], 512, "AMD", SOME).processor == "AMD"


def test_a_computer_that_is_slower_in_all_is_as_near() -> None:
    slow = Primitives(*[3e-10] * len(NAMES))
    assert slow.distance(COMPLETE) < 1e-12
    assert replace(slow, copy=9e-10).distance(COMPLETE) > 0.1
    assert Primitives().distance(COMPLETE) == 0


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("variables", "bits"),
    [
        ({}, None),
        ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2}, 256),
        ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}, 128),
        ({"NUMBA_CPU_NAME": "generic"}, 128),
        ({"SEPARABLE_VECTOR_BITS": "128"}, 128),
    ],
)
def test_the_width_is_that_of_the_engine(variables: dict[str, str], bits: int | None) -> None:
    """Also where the environment limits the engine; Numba is imported only afterwards."""
    code = (
        "import sys; from separable.machine import vector_bits; found = vector_bits()\n"
        "assert 'numba' not in sys.modules\n"
        "from separable.engine.compiled import jit; print(found, jit.vector_bits())"
    )
    limits = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "SEPARABLE_VECTOR_BITS")
    environment = {k: v for k, v in os.environ.items() if k not in limits} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    found, engine = map(int, done.stdout.split())
    assert found == engine
    assert bits in (None, found) or "x86" not in vector_width.architecture()


def test_features_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUMBA_CPU_FEATURES", "NUMBA_CPU_NAME", "SEPARABLE_VECTOR_BITS"):
        monkeypatch.delenv(name, raising=False)
    vector_width._host_features.cache_clear()
    usual = machine.vector_bits()
    monkeypatch.setattr(vector_width, "processor_features", frozenset)
    try:
        vector_width._host_features.cache_clear()
        assert machine.vector_bits() == usual
        monkeypatch.setattr(vector_width, "_numpy_features", dict)
        vector_width._host_features.cache_clear()
        assert machine.vector_bits() == 128
    finally:
        vector_width._host_features.cache_clear()


# Scaling


def test_rates_follow_their_primitives() -> None:
    found = profile(512, "AMD").adjusted(replace(COMPLETE, fma=3e-10, numpy_call=0.5e-10))
    assert found.source == "adjusted"
    rates = found.rates["fused"]["float32"]
    assert rates["tap"] == pytest.approx(12e-12)
    assert rates["call"] == pytest.approx(1e-6)
    assert rates["plane"] == 1e-10  # no primitive is declared for it
    assert found.predict("fused", np.dtype("float32"), {"tap": 1e6}, 2) == pytest.approx(12e-6)


def test_what_is_not_known_is_not_adjusted() -> None:
    for here, there in ((SOME, COMPLETE), (COMPLETE, SOME)):
        rates = profile(512, "AMD", there).adjusted(here).rates["fused"]["float32"]
        assert rates["tap"] == 4e-12
        assert rates["call"] != 2e-6


def test_a_disturbed_probe_does_not_decide_alone() -> None:
    for wrong, most in ((1.0, 8.0), (1e-20, 1 / 8)):
        rates = profile(512, "AMD").adjusted(replace(COMPLETE, fma=wrong)).rates
        assert rates["fused"]["float32"]["tap"] == pytest.approx(4e-12 * most)


def test_copies_count_with_the_faster_stores() -> None:
    assert replace(COMPLETE, stream_copy=5e-11).memory_copy == 5e-11
    assert replace(COMPLETE, copy=5e-11).memory_copy == 5e-11
    assert np.isnan(SOME.memory_copy)
    assert COMPLETE.ratio("memory_copy", replace(COMPLETE, copy=5e-11)) == 2.0


def test_every_method_says_what_its_rates_scale_with() -> None:
    known = {*NAMES, "memory_copy"}
    for shipped in machine.shipped_profiles():
        for name, tables in shipped.rates.items():
            kinds = {kind for rates in tables.values() for kind in rates}
            assert kinds <= set(shipped.scales[name]), (shipped.name, name)
            assert set(shipped.scales[name].values()) <= known
            if name in METHODS:
                assert shipped.scales[name] == dict(METHODS[name].scales_with), shipped.name


# The probe and its file


def test_the_probe_is_short() -> None:
    """Tens of milliseconds of the processor."""
    found = measure_with_numpy()
    assert least_cpu_seconds(measure_with_numpy) < 0.3
    assert not found.is_complete
    assert all(0 < v < 1e-3 for v in found.to_dict().values())


@pytest.mark.compiled
def test_the_probe_of_the_engine_is_short_and_kept(own_folder: Path) -> None:
    from separable.engine.compiled import processor_speed

    found = processor_speed.measure()  # compiles
    assert least_cpu_seconds(processor_speed.measure) < 0.3  # 20 ms where nothing else runs
    assert set(found) == set(COMPILED)
    assert all(0 < v < 1e-7 for v in found.values())
    processor_speed.primitives.cache_clear()
    try:
        before = machine.current()
        measured = processor_speed.primitives()
        assert measured.is_complete
        assert machine.known_primitives() == machine.current().primitives == measured
        assert machine.current() != before
        machine.forget()
        kept = machine.known_primitives()
        assert kept.to_dict() == measured.to_dict()
        processor_speed.primitives.cache_clear()
        assert processor_speed.primitives() == kept
    finally:
        processor_speed.primitives.cache_clear()


@pytest.mark.compiled
def test_no_memory_for_the_probe(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from separable.engine.compiled import processor_speed

    def measure() -> Any:
        raise MemoryError

    monkeypatch.setattr(processor_speed, "measure", measure)
    processor_speed.primitives.cache_clear()
    try:
        assert not processor_speed.primitives().is_complete
    finally:
        processor_speed.primitives.cache_clear()


def test_the_probe_is_made_once(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine.current()
    assert made.source == "adjusted"
    (file,) = own_folder.iterdir()
    machine.forget()
    monkeypatch.setattr(this_machine, "measure_with_numpy", lambda: pytest.fail("measured again"))
    assert machine.current().primitives.to_dict() == made.primitives.to_dict()
    values = json.loads(file.read_text())
    assert processor_name() in values["computer"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{ broken",
        "[]",
        "3",
        '{"format": 99}',
        '{"format": 1, "computer": "another, 512 bits", "primitives": {"fma": 1e-11}}',
        '{"format": 1, "computer": "HERE", "primitives": {"fma": -1}}',
        '{"format": 1, "computer": "HERE", "primitives": {"fma": "fast"}}',
        '{"format": 1, "computer": "HERE", "primitives": {"fma": NaN}}',
        '{"format": 1, "computer": "HERE", "primitives": 3}',
        "\udcff",
    ],
)
def test_a_file_that_is_damaged_or_of_another_computer(own_folder: Path, text: str) -> None:
    machine.current()
    (file,) = own_folder.iterdir()
    text = text.replace("HERE", this_machine._computer())
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    machine.forget()
    assert machine.current().source == "adjusted"
    assert json.loads(file.read_text())["computer"] == this_machine._computer()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    known = dict(this_machine._known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    machine.forget()
    try:
        plan = sep.plan([1, 2, 1], (64,))
        assert "of a reference computer" in plan.machine
        machine.record_primitives(COMPLETE)
        assert machine.current().primitives == COMPLETE  # for this process
    finally:
        machine.forget()
        this_machine._known.update(known)


def test_no_home_at_all(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(this_machine, "cache_path", nowhere)
    assert machine.current().source == "adjusted"


@pytest.mark.parametrize(
    "change",
    [{"processor": "Another processor"}, {"vector_bits": 64}],
)
def test_a_measured_profile_of_another_computer(own_folder: Path, change: dict[str, Any]) -> None:
    bits = machine.vector_bits()
    own = Machine("mine", 2, RATES, processor=processor_name(), vector_bits=bits)
    for made, source in ((own, "this computer"), (replace(own, **change), "adjusted")):
        made.save(machine.cache_path())
        machine.current.cache_clear()
        assert machine.current().source == source


def test_a_profile_of_the_first_format(own_folder: Path) -> None:
    old = {"format": 1, "name": "AMD EPYC, 2 threads, 2026-11-21", "threads": 2, "rates": RATES}
    own_folder.mkdir(parents=True, exist_ok=True)
    machine.cache_path().write_text(json.dumps(old))
    machine.current.cache_clear()
    found = machine.current()
    assert (found.source, found.primitives) == ("this computer", Primitives())
    read = Machine.from_dict(old)
    assert read.rates == read.adjusted(COMPLETE).rates == RATES
    # What the old version did not measure is not free.
    others = machine.shipped(machine.known_primitives()).adjusted(machine.known_primitives())
    kinds = found.rates["fused"]["float32"]
    assert kinds == {**others.rates["fused"]["float32"], **RATES["fused"]["float32"]}
    assert found.rates["fft"] == others.rates["fft"]


def test_planning_imports_neither_numba_nor_scipy(tmp_path: Path) -> None:
    code = (
        "import sys, separable as sep\n"
        "p = sep.plan(sep.kernels.gaussian(2).dense(), (512, 512))\n"
        "assert not {'numba', 'scipy.fft', 'scipy.ndimage'} & set(sys.modules)\n"
        "print(p.machine)"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert "adjusted to this one by a short probe" in done.stdout


# What a plan says


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("measured", "measured on AMD, 512"),
        ("this computer", "measured on this computer (AMD, 512)"),
        (
            "adjusted",
            "of a reference computer (AMD, 512), adjusted to this one by a short probe; "
            "`separable machine` measures them",
        ),
        (
            "shipped",
            "of a reference computer (AMD, 512); `separable machine` measures those of this one",
        ),
    ],
)
def test_a_plan_says_whose_rates_it_uses(source: str, said: str) -> None:
    rates = machine.shipped_profiles()[0].rates
    made = replace(profile(512, "AMD"), source=source, rates=rates)
    plan = sep.plan([1, 2, 1], (64,), machine=made)
    assert plan.machine == said
    assert f"Rates: {said}." in " ".join(str(plan).split())
    assert plan.to_dict()["machine"] == said


@pytest.mark.compiled
def test_the_shipped_profile_holds_after_the_engine_has_run(own_folder: Path) -> None:
    warmup()
    assert machine.current().origin.startswith("of a reference computer (")
