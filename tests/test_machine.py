"""The machine profile: reading, writing, predicting, measuring."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

import separable as sep
from separable import calibrate, errors, machine
from separable.engine import METHODS
from separable.machine import Machine
from separable.machine.this_machine import PROFILES

RATES = {"passes": {"float32": {"tap": 2.0, "call": 1.0}, "float64": {"tap": 4.0}}}


def test_prediction_is_the_sum_of_counts_times_rates() -> None:
    m = Machine("m", 2, RATES)
    assert m.predict("passes", np.dtype("float32"), {"tap": 3.0, "call": 1.0}, 2) == 7.0
    assert m.predict("passes", np.dtype("float32"), {"tap": 3.0, "call": 1.0}, 1) == 14.0
    assert m.predict("passes", np.dtype("int64"), {"tap": 1.0}, 2) == 4.0
    assert m.predict("passes", np.dtype("complex64"), {"tap": 1.0}, 2) == 4.0
    assert math.isnan(m.predict("unheard of", np.dtype("float32"), {}, 2))


def test_save_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "deep"))
    path = machine.cache_path()
    machine.current.cache_clear()
    assert machine.current().source == "adjusted"
    mine = Machine("mine", 3, RATES, scales={"passes": {"tap": "scalar"}})
    mine.save(path)
    machine.current.cache_clear()
    try:
        assert machine.current().to_dict() == mine.to_dict()
        assert machine.current().origin == "measured on this computer (mine)"
        path.write_text("{ broken")
        machine.current.cache_clear()
        assert machine.current().source == "adjusted"
    finally:
        machine.current.cache_clear()
    assert [p.name for p in path.parent.iterdir()] == ["machine.json"]


@pytest.mark.parametrize(
    "values",
    [
        3,
        {},
        {"format": 99},
        {"format": 1, "rates": 3},
        {"format": 2, "name": "m", "threads": 1, "rates": {}, "primitives": {"fma": -1.0}},
        {"format": 2, "name": "m", "threads": 1, "rates": {}, "scales": {"fused": 3}},
    ],
)
def test_files_that_are_not_a_profile(values: object) -> None:
    with pytest.raises(errors.MachineError, match="Run `separable machine`"):
        Machine.from_dict(values)


@pytest.mark.parametrize("number", range(len(PROFILES)))
def test_the_shipped_profiles_know_every_planned_method(number: int) -> None:
    profile = machine.shipped_profiles()[number]
    rates = profile.rates
    for method in METHODS.values():
        if method.planned and not method.rates_of:
            assert "float32" in rates[method.name]
            if method.name in ("fused", "dense"):
                assert set(rates[method.name]) == set(calibrate.DTYPES), method.name
    assert set(rates["store"]) == set(calibrate.DTYPES)
    p = sep.plan(np.ones((3, 3)), (64, 64), machine=profile)
    assert all(c.seconds > 0 for c in p.candidates if not c.refused)


def test_measuring_fits_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """On two small cases of each method; the whole measurement is for `separable machine`."""
    every = list(calibrate.cases())
    some = [
        c for c in every if c.dtype == "float32" and np.prod(c.shape) <= 400 * 500
    ]  # fmt: skip
    own = {m.name for m in METHODS.values() if m.planned and not m.rates_of}
    assert {c.method for c in some} == own
    monkeypatch.setattr(calibrate, "cases", lambda: iter(some))
    done: list[float] = []
    measured = calibrate.measure(done.append)
    assert math.isclose(sum(done), 1.0)
    assert set(measured.rates) == {c.method for c in some} | {"store"}
    assert all(v >= 0 for t in measured.rates.values() for r in t.values() for v in r.values())
    assert Machine.from_dict(json.loads(json.dumps(measured.to_dict()))).rates == measured.rates


def test_every_count_is_calibrated() -> None:
    """A count without a rate would be taken for free."""
    counted: dict[str, set[str]] = {}
    # One size of each kind of kernel: what is counted does not depend on the size.
    cases = {(c.method, c.dtype, c.kernel[0], c.axes): c for c in reversed(list(calibrate.cases()))}
    for case in cases.values():
        problem, form, _ = calibrate._prepare(case)
        work = METHODS[case.method].estimate(problem, form)
        counted.setdefault(case.method, set()).update(k for k, v in work.counts.items() if v)
    for method, kinds in counted.items():
        for profile in machine.shipped_profiles():
            assert kinds <= set(profile.rates[method]["float32"]), (method, profile.name)


def test_the_derived_profile_follows_from_the_measured_one() -> None:
    """Nobody edits the rates of Intel's AVX-512 by hand."""
    path = Path(__file__).parents[1] / "tools" / "ship_profile.py"
    spec = importlib.util.spec_from_file_location("ship_profile", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    by_file = dict(zip(PROFILES, machine.shipped_profiles(), strict=True))
    measured, derived = by_file["avx512_amd_zen4"], by_file["avx512_intel"]
    assert tool.derived(measured).rates == derived.rates
    assert derived.primitives.fma == pytest.approx(2 / 116e9, rel=1e-3)
    assert derived.primitives.folded_fma / derived.primitives.fma == pytest.approx(1.5, rel=0.01)
    assert "Derived, not measured" in derived.notes
    assert "derived" in derived.name
    assert "measured" not in derived.name
