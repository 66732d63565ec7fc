"""Docstrings begin with a verb or a noun phrase, not with a fragment of a sentence."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
CHECKED = ("src/separable", "docs", "examples", "tools", "benchmarks", "tests")


def structure_counts() -> ModuleType:
    path = ROOT / "tools" / "structure_counts.py"
    spec = importlib.util.spec_from_file_location("structure_counts", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COUNTS = structure_counts()


def fragments(folder: Path) -> list[tuple[str, str]]:
    """Return the file and the first line of every docstring that begins with a fragment."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        if {"api", "lessons_built", "_build"} & set(path.relative_to(ROOT).parts):
            continue  # written by a build of the documentation
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [
            (path.relative_to(ROOT).as_posix(), text.splitlines()[0])
            for text in COUNTS.docstrings(tree)
            if COUNTS.begins_with_a_fragment(text)
        ]
    return found


def test_no_docstring_begins_with_a_fragment() -> None:
    found = [pair for folder in CHECKED for pair in fragments(ROOT / folder)]
    wrong = [f"{file}: {line}" for file, line in found]
    assert not wrong, "write a verb (function) or a noun phrase (class):\n" + "\n".join(wrong)


def test_fragments_are_recognised() -> None:
    for text in ("Of the kernel.", "Whether it was.", "What it takes", "By the method."):
        assert COUNTS.begins_with_a_fragment(text)
    for text in ("Return whether it was.", "Kernel size.", "Offset of the field."):
        assert not COUNTS.begins_with_a_fragment(text)
