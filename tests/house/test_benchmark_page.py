"""The page of benchmarks and the README quote saved measurements, and no others."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLAIM = re.compile(
    r"\b[\d.]+(x| times| %) (faster|slower|the speed|as fast)|(faster|slower) than \w+"
)
SECTION = re.compile(r"<!-- speed -->\n(.*?)<!-- end -->", flags=re.DOTALL)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("page")


def saved(page: ModuleType) -> Any:
    """Return the results of `make bench`, or None before it was run for the first time."""
    return json.loads(page.RESULTS.read_text(encoding="utf-8")) if page.RESULTS.exists() else None


def results(page: ModuleType, opencv: float) -> dict[str, Any]:
    """Return results in which OpenCV takes this many seconds and ours takes one."""
    rows = [
        {
            "key": key, "name": key, "seconds": 1.0, "floor": [1.0, "copy"], "method": "separable",
            "peers": dict.fromkeys(("OpenCV", "DIPlib"), opencv), "error": 1e-7, "errors": {},
        }
        for key in page.IN_README
    ]  # fmt: skip
    rates = {"copy": {}, "stores": {}, "multiply_adds": {}, "pairs": {}}
    widths = {
        width: {"runs": [{"avx512": width == "native", "limits": [], "rates": rates, "rows": rows}]}
        for width in ("native", "avx2")
    }
    where = {"date": "2026-01-01", "processor": "P", "processors": 2, "threads": 2, "load": 0.0}
    return {"where": {**where, "versions": {"numpy": "2"}}, "widths": widths}


def test_the_page_has_the_saved_results(page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text, {}) == text  # the introduction and the order of the sections
    found = saved(page)
    if found is None:
        assert "<!-- filters -->" not in text
    else:
        section = page.filters_section(found)
        assert page.written(text, {"filters": section}) == text, "run benchmarks/page.py filters"


def test_the_page_of_fused_layers_has_the_saved_results(page: ModuleType) -> None:
    text = page.FUSED_PAGE.read_text(encoding="utf-8")
    if page.fused_tables.RESULTS.exists():
        found = page.fused_tables.load()
        assert page.fused_page(text, found) == text, "run benchmarks/page.py fused"
    else:
        for name in ("measurements", "missed"):
            assert f"<!-- {name} -->\n<!-- end -->" in text


def test_the_readme_has_the_saved_results(page: ModuleType) -> None:
    found = saved(page)
    if found is None:
        assert SECTION.findall(README) == [""]
    else:
        expected = page.with_section(README, page.readme_section(found))
        assert expected == README, "run benchmarks/page.py filters"


def test_the_readme_quotes_each_table(page: ModuleType) -> None:
    found = results(page, 3.14)
    found["widths"]["avx2"] = results(page, 2.0)["widths"]["avx2"]
    found["widths"]["avx2"]["runs"][0]["avx512"] = False
    section = page.readme_section(found)
    assert "| P, 2 threads | over | AVX-512 | AVX2 |" in section
    for key, name in page.IN_README.items():
        peer = "DIPlib" if key == "volume" else "OpenCV"
        assert f"| {name} | {peer} | 3.1 | 2.0 |" in section
    once = page.with_section(README, section)
    assert page.with_section(once, section) == once
    assert section in once


def test_rows_that_the_readme_names_have_targets(page: ModuleType) -> None:
    assert set(page.IN_README) <= set(importlib.import_module("targets").TARGETS)


def test_a_section_is_replaced_and_the_others_stay(page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    section = page.filters_section(results(page, 3.0))
    assert "2026-01-01, P, 2 processors, 2 threads" in section
    once = page.written(text, {"filters": section})
    assert section in once
    assert page.written(once, {"filters": section}) == once
    for part in re.findall(r"<!-- (?!filters)\w+ -->.*?<!-- end -->", text, flags=re.DOTALL):
        assert part in once


def claims(text: str) -> list[str]:
    """Return what a text says about speed outside code and the section of measured ratios."""
    text = SECTION.sub("", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [" ".join(m.group().split()) for m in CLAIM.finditer(text)]


def test_the_readme_claims_no_speed_that_was_not_measured() -> None:
    assert claims(README) == []


def test_claims_are_recognised() -> None:
    assert claims("It is 3.5 times faster than OpenCV.") == ["3.5 times faster"]
    assert claims("It is faster than SciPy.") == ["faster than SciPy"]
    assert claims("```\n12 times faster than the next\n```") == []
