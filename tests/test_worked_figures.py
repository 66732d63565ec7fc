"""The list of worked figures: each is computed, each command is run, each view and lesson exists."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest

from separable.cli import run

pytest.importorskip("torch")
DOCS = Path(__file__).parents[1] / "docs"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worked_figures", DOCS / "worked_figures.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


page = _load()
BY_COMMAND = {figure.command: figure for figure in page.FIGURES if figure.command}


def marked(values: dict[object, object]) -> list[object]:
    """Return parameters; whole networks, which take a second each, are tested with the documentation."""
    return [
        pytest.param(v, marks=pytest.mark.docs) if figure.group == page.NETWORKS else v
        for v, figure in values.items()
    ]


def name_of(figure: object) -> str:
    return re.sub(r"[^\w.]+", "-", str(getattr(figure, "what", figure)))


@pytest.mark.parametrize("figure", marked({f: f for f in page.FIGURES}), ids=name_of)
def test_the_library_computes_the_figure(figure: object) -> None:
    assert figure.compute() == figure.expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", marked(BY_COMMAND))
def test_the_command_prints_it(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    program, *arguments = shlex.split(command)
    assert program == "separable"
    assert run(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    absent = [text for text in BY_COMMAND[command].prints if text not in printed]
    assert not absent, f"{absent} not in {printed}"
    assert BY_COMMAND[command].prints


def test_every_figure_is_shown_somewhere() -> None:
    for figure in page.FIGURES:
        assert figure.command or figure.lesson, figure.what
        assert bool(figure.lesson) == bool(figure.says), figure.what


def test_the_views_exist() -> None:
    text = resources.files("separable.explore").joinpath("static/index.html").read_text("utf-8")
    for view, element in page.VIEWS.items():
        found = re.search(rf'id="{element}"[^>]*>\s*([^<]+)<', text)
        assert found, element
        assert found[1] == view
    assert {figure.view for figure in page.FIGURES} <= {"", *page.VIEWS}


@pytest.mark.parametrize("lesson", sorted({f.lesson for f in page.FIGURES if f.lesson}))
def test_the_lessons_exist_and_are_linked(lesson: int) -> None:
    (path,) = DOCS.glob(f"lessons/lesson_{lesson:02d}_*.py")
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert f"docs/lessons/{path.name}" in readme


@pytest.mark.docs
def test_the_page_is_made_of_the_table() -> None:
    """The table is up to date; python docs/worked_figures.py makes it anew."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text) == text


def test_the_commands_are_those_of_the_worked_figures() -> None:
    """No command is listed twice with different expectations."""
    expectations: dict[str, set[tuple[str, ...]]] = {}
    for figure in page.FIGURES:
        if figure.command:
            expectations.setdefault(figure.command, set()).add(figure.prints)
    assert all(len(found) == 1 for found in expectations.values())
