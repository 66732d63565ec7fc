"""SciPy's own tests of the linear filters, run on ours: what fails is a line of a documented table.

The table stands in ``docs/compatibility.md``; a ``*`` in the name of a test stands for any text.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import scipy

from separable.engine.availability import available

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
SECTION = PAGE.partition("\n## SciPy's own tests\n")[2].partition("\n## ")[0]
ROW = re.compile(r"^\| `(test_\S+)` \| (\d+|older|no Numba) \| (\d+) \|", re.MULTILINE)
COUNTS = re.compile(
    r"In SciPy (\d+\.\d+) the files hold ([\d,]+) tests. ([\d,]+) of them call at least one of the "
    r"nineteen; ([\d,]+) pass \((\d+\.\d) %\)".replace(" ", r"\s+")
)
ROUNDING = (2, 3)  # lines of the page: the last bits, which another processor may have alike
LEAST = 0.979  # of the tests that call a function of ours, with the version that the page counts
INI = """[pytest]
filterwarnings =
    error::RuntimeWarning
    error::UserWarning
    default::pytest.PytestWarning
"""
pytestmark = pytest.mark.peers
# Looked up before the session's fixtures move the cache: compiled code is taken from where it is.
COMPILED = os.environ.get("SEPARABLE_CACHE_DIR") or platformdirs.user_cache_dir("separable")


def table() -> dict[str, tuple[int | None, int]]:
    """The tests that fail, as patterns, with how many there are and the line that explains them.

    No number: a test that fails with versions of SciPy before the one that the page counts, or without
    Numba.
    """
    return {
        name: (int(count) if count.isdecimal() else None, int(line))
        for name, count, line in ROW.findall(SECTION)
    }


def matching(names: list[str], pattern: str) -> set[str]:
    expression = re.escape(pattern).replace(r"\*", ".*")
    return {name for name in names if re.fullmatch(expression, name)}


def plain(name: str) -> str:
    """A name of a test without SciPy's parameter for the library of arrays.

    >>> [plain(f"test{end}") for end in ("[numpy-uint8]", "[uint8-numpy]", "[uint8]", "[numpy]")]
    ['test[uint8]', 'test[uint8]', 'test[uint8]', 'test']
    """
    return re.sub(r"\[numpy\]$", "", re.sub(r"(?<=\[)numpy-|-numpy(?=\]$)", "", name))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the outcome of every test of SciPy that calls one of our functions, and of all tests."""
    if importlib.util.find_spec("scipy.ndimage.tests") is None:
        pytest.skip(f"this installation of SciPy {scipy.__version__} has no tests of its own")
    folder = tmp_path_factory.mktemp("scipy")
    (folder / "pytest.ini").write_text(INI)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "SCIPY_"))}
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {
        **kept, "PYTHONPATH": paths, "SEPARABLE_CACHE_DIR": COMPILED,
        "SEPARABLE_SCIPY_OUTCOMES": str(folder / "outcomes.json"),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "scipy_tests_plugin", "-p", "no:cacheprovider",
        "-c", str(folder / "pytest.ini"), "--tb=short",
        "--pyargs", "scipy.ndimage.tests.test_filters", "scipy.ndimage.tests.test_interpolation",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((folder / "outcomes.json").read_text())
    assert found, done.stdout[-3000:]
    return {plain(name): outcome for name, outcome in found.items()}


def failures(outcomes: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {n: o["message"] for n, o in outcomes.items() if o["outcome"] == "failed"}


def counted_version() -> str:
    found = COUNTS.search(SECTION)
    assert found, "the page says how many tests pass"
    return found[1]


def is_counted() -> bool:
    """Return whether the page counts this configuration: this SciPy, our compiled engine, x86-64."""
    usual = platform.machine().lower() in ("x86_64", "amd64")
    return available() and usual and scipy.__version__.startswith(counted_version() + ".")


def test_every_failure_is_a_row_of_the_table(outcomes: dict[str, dict[str, Any]]) -> None:
    failed = failures(outcomes)
    rows = [p for p, (count, _) in table().items() if count is not None or not is_counted()]
    explained = set().union(*(matching(list(failed), pattern) for pattern in rows))
    assert {n: m for n, m in failed.items() if n not in explained} == {}


def test_every_row_of_the_table_fails(outcomes: dict[str, dict[str, Any]]) -> None:
    """A test that passes by now leaves the table."""
    failed, names = failures(outcomes), list(outcomes)
    for pattern, (count, line) in table().items():
        if count is None or (line in ROUNDING and not is_counted()):
            continue
        found = matching(names, pattern)
        assert {n for n in found if n not in failed} == set(), f"{pattern} passes"
        if is_counted():
            assert len(found) == count, pattern


def test_every_row_names_a_numbered_line_of_the_page() -> None:
    lines = {int(n) for n in re.findall(r"^(\d+)\. ", PAGE, re.MULTILINE)}
    rows = table()
    assert rows
    assert SECTION.count("\n| `") == len(rows), "a row is not understood"
    assert {line for _, line in rows.values()} <= lines


def test_the_counts_of_the_page(outcomes: dict[str, dict[str, Any]]) -> None:
    if not is_counted():
        pytest.skip(f"the page counts SciPy {counted_version()} with Numba on x86-64")
    numbers = COUNTS.search(SECTION)
    assert numbers is not None
    own = [o for o in outcomes.values() if o["ours"]]
    passed = sum(o["outcome"] == "passed" for o in own)
    assert [int(n.replace(",", "")) for n in numbers.groups()[1:4]] == [
        len(outcomes), len(own), passed,
    ]  # fmt: skip
    assert float(numbers[5]) == pytest.approx(100 * passed / len(own), abs=0.05)
    assert passed >= LEAST * len(own)
    assert len(own) - passed == sum(count or 0 for count, _ in table().values())


def test_ours_are_called_and_no_others_are_replaced(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["test_gaussian_truncate"]["ours"]
    assert not outcomes["test_rank06"]["ours"]
    assert all(o["ours"] for o in outcomes.values() if o["outcome"] == "failed")
