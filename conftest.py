"""What the tests and the examples in the sources share: those that need the compiled engine.

Without Numba, or with ``SEPARABLE_ENGINE=scipy`` in the environment, they are skipped by name and
all others run on SciPy's methods.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from separable.engine.availability import VARIABLE, why_not
from separable.errors import ArgumentError

# The one warning that Numba is missing is no error of a test.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    REASON = why_not()
if REASON:  # what tests start as processes of their own says nothing
    os.environ[VARIABLE] = "scipy"

MARKED = re.compile(r"^(pytestmark|from separable\.(engine|nn\.fused)\.compiled)\b.*", re.MULTILINE)


def needs_engine(path: Path) -> bool:
    """Return whether a file cannot even be imported without the compiled engine."""
    if "compiled" in path.parts[:-1]:
        return True
    text = path.read_text(encoding="utf-8")
    return any(".compiled" in line.group() for line in MARKED.finditer(text))


EXAMPLES = {
    "separable.bank.core.Bank",
    "separable.bank.core.Group",
    "separable.volumes.blocks.chunkwise",
    "separable.volumes.dask_schedule.schedule",
    "separable.volumes.schedule.Schedule",
    "separable.volumes.stages.groupings",
}
"""Examples that print what is planned with the compiled methods."""


class Skipped(pytest.Module):
    """A file of tests of the compiled engine, which is not there."""

    def collect(self) -> Iterator[Any]:
        """Skip all of it."""
        pytest.skip(f"needs the compiled engine: {REASON}", allow_module_level=True)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: Any) -> Any:
    """Put one skipped file in the place of those that tests and doctests would be read from."""
    found = yield
    if REASON and found and file_path.suffix == ".py" and needs_engine(file_path):
        return [Skipped.from_parent(parent, path=file_path)]
    return found


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked."""
    if REASON and (item.get_closest_marker("compiled") or item.name in EXAMPLES):
        pytest.skip(f"needs the compiled engine: {REASON}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Skip what asks for a method of the compiled engine by name and is told that there is none."""
    try:
        return (yield)
    except ArgumentError as error:
        if REASON and str(error).endswith(f"cannot run this filter: {REASON}"):
            pytest.skip(f"needs the compiled engine: {REASON}")
        raise
