"""The house itself: exports, what an import brings, docs that run."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import separable as sep
from separable import errors
from separable.engine import availability

ROOT = Path(__file__).parents[2]
HEAVY = ["torch", "dask", "matplotlib", "scipy", "numba", "tensorly", "rich", "typer", "imageio"]


def test_exports_are_sorted_and_there() -> None:
    assert sep.__all__ == sorted(sep.__all__)
    assert len(sep.__all__) <= 24
    for name in sep.__all__:
        assert getattr(sep, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        sep.nonsense  # noqa: B018


def test_an_import_brings_only_numpy() -> None:
    code = (
        "import sys, json, separable; "
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def modules() -> list[str]:
    found = pkgutil.walk_packages(sep.__path__, "separable.")
    return ["separable", *(m.name for m in found if not m.name.endswith("__main__"))]


def is_compiled(name: str) -> bool:
    return ".compiled" in name


def each_module() -> list[Any]:
    """Return all modules; those of the compiled engine, which import Numba, are marked."""
    engine = pytest.mark.compiled
    return [pytest.param(n, marks=engine) if is_compiled(n) else n for n in modules()]


@pytest.mark.parametrize("name", each_module())
def test_every_module_says_what_it_is_and_exports(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, name
    exported = getattr(module, "__all__", [])
    assert exported or name.endswith(".methods") or is_compiled(name)  # for the engine alone
    assert all(hasattr(module, n) for n in exported)


PUBLIC = [
    "separable",
    "separable.xarray_accessor",
    "separable.borders",
    "separable.filter_bank",
    "separable.cost",
    "separable.files",
    "separable.kernels",
    "separable.ndimage",
    "separable.nn",
    "separable.nn.models",
    "separable.plot",
    "separable.resample",
    "separable.tensors",
    "separable.volumes",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_has_an_example_and_types(name: str) -> None:
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        documented = inspect.getdoc(value) or ""
        if value is not sep.Machine:
            assert ">>>" in documented, f"{name}.{public} has no example"
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            assert signature.return_annotation is not inspect.Signature.empty
            for parameter in signature.parameters.values():
                assert parameter.annotation is not inspect.Parameter.empty, (public, parameter)


def test_numba_is_imported_in_one_module() -> None:
    """Numba may change what is private; what we take of it is in one place, with a guard."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += (
                [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            )
            if any(name.split(".")[0] == "numba" for name in names):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"src/separable/engine/compiled/numba_api.py"}


def test_the_oldest_numba_is_the_one_that_is_required() -> None:
    required = re.search(r'"numba>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert required
    assert required.group(1) == ".".join(map(str, availability.MINIMUM))


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    drawn = re.findall(r"[├└]── (\w+) +\(([\w, ]+)\)", errors.__doc__ or "")
    assert {name for name, _ in drawn} | {"SeparableError"} == set(errors.__all__)
    for name, bases in drawn:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.SeparableError)
        assert {b.strip() for b in bases.split(",")} == {
            b.__name__ for b in kind.__bases__ if b is not errors.SeparableError
        }


@pytest.mark.compiled  # it shows a plan with the compiled methods
def test_the_readme_is_true() -> None:
    """Run the README's block of code and compare what it prints with what the README shows."""
    text = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert code
    assert shown
    done = subprocess.run(
        [sys.executable, "-c", code.group(1)], capture_output=True, text=True, check=True
    )
    assert _without_times(done.stdout) == _without_times(shown.group(1))


def _without_times(text: str) -> list[list[str]]:
    """Times depend on the machine; words and counts do not."""
    text = re.sub(r"\d[\d.]* (s|ms|us)\b", "TIME", text)
    text = re.sub(r"[\d.]+( times|x) (slower|faster)", r"N\1 \2", text)
    text = re.sub(r"\d+ threads?", "N threads", text)
    text = re.sub(r"Rates: .*?(?=\nmethod:)", "Rates", text, flags=re.DOTALL)
    return [line.split() for line in text.strip().splitlines()]


def test_files_and_functions_stay_small() -> None:
    long_files = {
        str(p.relative_to(ROOT)): n
        for p in (ROOT / "src").rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 450
    }
    assert not long_files


def test_memory_limits_of_tests_leave_room_for_the_tests_before() -> None:
    """A limit counts the memory of its process, and a process that runs all tests uses gigabytes."""
    limit = re.compile(r"""memory["']?[,=]\s*["'](\d+)(GiB|GB|G)["']""")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / "tests").rglob("*.py")
        for match in limit.finditer(path.read_text(encoding="utf-8"))
        if int(match[1]) < 64
    ]
    assert not found, "write 64GiB"


@pytest.mark.parametrize(
    "page",
    [p for name in ("*.md", "docs/*.md", "examples/*.md") for p in sorted(ROOT.glob(name))],
    ids=str,
)
def test_links_of_our_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("http", "#", "mailto:")):
            assert (page.parent / link.split("#")[0]).exists(), f"{page}: there is no {link}"


def test_the_built_pages_are_checked(tmp_path: Path) -> None:
    def checked() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "docs" / "check_links.py", tmp_path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    (tmp_path / "a.html").write_text('<a href="b.html#x">b</a><a href="https://x.org">out</a>')
    (tmp_path / "b.html").write_text('<p id="x">here</p>')
    assert checked().returncode == 0
    for bad, said in (
        ('<a href="c.html">', "a.html: there is no c.html"),
        ('<a href="b.html#y">', "a.html: there is no place b.html#y"),
        ('<script src="https://x.org/a.js">', "a.html: loads https://x.org/a.js"),
    ):
        (tmp_path / "a.html").write_text(bad)
        found = checked()
        assert found.returncode == 1
        assert said in found.stdout


def test_no_two_modules_have_the_same_name() -> None:
    package = ROOT / "src" / "separable"
    names = [p.stem for p in package.rglob("*.py") if not p.stem.startswith("__")]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    assert repeated == []
    assert "core" not in names
