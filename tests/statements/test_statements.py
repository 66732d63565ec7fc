"""The matrix format x statement: every cell of the table is proven by a case, or cannot occur."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from statement_cases import CASES, WAYS, Case, Run, Way, cells

from separable import files
from separable.files.statements import unanswered

pytestmark = pytest.mark.apart

for module in sorted(Path(__file__).parent.glob("*_statements.py")):
    if not module.stem.startswith("test_"):
        importlib.import_module(module.stem)


def ways(format: files.Format) -> list[Way]:
    """Return the ways in which a format is filtered."""
    by_parts = format.open is not None and format.create is not None
    return [way for way in WAYS if by_parts or not way.parts]


def runs() -> list[object]:
    return [
        pytest.param(one, way, id=f"{format.name}-{statement}-{one.__name__}-{way}")
        for format, statement in cells()
        for one in CASES.get((format.name, statement), [])
        for way in ways(format)
    ]


@pytest.mark.parametrize("format", files.registered_formats(), ids=lambda f: f.name)
def test_a_format_answers_every_statement(format: files.Format) -> None:
    assert unanswered(format.statements) == ()


def test_the_page_of_files_has_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs"))
    page = importlib.import_module("statements")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text) == text, "run docs/statements.py"


def test_every_cell_has_a_case_and_every_case_a_cell() -> None:
    assert {(format.name, statement) for format, statement in cells()} == set(CASES)


@pytest.mark.parametrize(("one", "way"), runs())
def test_the_answer_is_true(
    one: Case, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(Run(tmp_path, way, monkeypatch))
