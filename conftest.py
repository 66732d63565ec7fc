"""Skip, by name, what needs an optional package or the compiled engine where there is none.

The suite runs with PyTorch and everything else by default. `make test-oldest` and an installation without
Numba run the same files: a module or a test that cannot import a missing package is reported as skipped, with the
package's name. A package that is installed but fails to import is an error everywhere.

Without Numba, or with ``SEPARABLE_ENGINE=scipy`` in the environment, what needs the compiled engine is
skipped with the reason, and all else runs on SciPy's methods. An engine that is there but fails is an error.
"""

from __future__ import annotations

import doctest
import importlib.metadata
import importlib.util
import os
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from separable.engine.availability import VARIABLE, why_not
from separable.errors import ArgumentError

OPTIONAL = frozenset({
    "PIL", "SimpleITK", "axe_playwright_python", "dask", "distributed", "h5py", "keras", "matplotlib",
    "netCDF4", "nibabel", "nrrd", "onnx", "onnxruntime", "onnxscript", "playwright", "pydicom", "pywt", "rasterio", "safetensors", "skimage",
    "sklearn", "spectral", "starlette", "torch", "triton", "uvicorn", "xarray", "zarr",
})  # fmt: skip


@lru_cache
def _is_missing(package: str) -> bool:
    return package in OPTIONAL and importlib.util.find_spec(package) is None


def _missing_package(error: BaseException | None) -> str:
    """Return the optional package whose absence raised this error, or an empty string."""
    if isinstance(error, doctest.UnexpectedException):
        error = error.exc_info[1]
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ImportError) and _is_missing(package):
            return package
        error = error.__cause__ or error.__context__
    return ""


def _as_skipped(report: Any, path: str, error: BaseException | None) -> None:
    package = _missing_package(error)
    if report.outcome == "failed" and package:
        report.outcome = "skipped"
        report.longrepr = (path, 0, f"Skipped: needs {package}, which is not installed")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip comparisons with what an older SciPy does not have."""
    installed = importlib.metadata.version("scipy")
    for item in items:
        mark = item.get_closest_marker("needs_scipy")
        if mark is not None and _numbers(installed) < _numbers(mark.args[0]):
            reason = f"needs SciPy {mark.args[0]} or later; {installed} is installed"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Skip a module that imports a missing package."""
    report: Any = yield
    if report.call is not None and report.call.excinfo is not None:
        _as_skipped(report, str(collector.path), report.call.excinfo.value)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Skip a test that imports a missing package while it runs."""
    report: Any = yield
    if call.excinfo is not None:
        _as_skipped(report, str(item.path), call.excinfo.value)
    return report


# GPU kernels are tested by Triton's interpreter, which must be chosen before Triton is first imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The one warning that Numba is missing is no error of a test.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    REASON = why_not()
if REASON:  # what tests start as processes of their own says nothing
    os.environ[VARIABLE] = "scipy"

HERE = Path(__file__).parent
MARKED = re.compile(r"^(pytestmark|from separable\.(engine|nn\.fused)\.compiled)\b.*", re.MULTILINE)


def needs_engine(path: Path) -> bool:
    """Return whether a file cannot even be imported without the compiled engine."""
    if "compiled" in path.relative_to(HERE).parts[:-1]:
        return True
    text = path.read_text(encoding="utf-8")
    return any(".compiled" in line.group() for line in MARKED.finditer(text))


EXAMPLES = {
    "separable.filter_bank.planned_bank.Bank",
    "separable.filter_bank.sweep_groups.Group",
    "separable.volumes.halo.chunkwise",
    "separable.volumes.dask_schedule.schedule",
    "separable.volumes.slab_schedule.Schedule",
    "separable.volumes.filter_stages.groupings",
}
"""Examples that print what is planned with the compiled methods."""


class Skipped(pytest.Module):
    """A file that needs the compiled engine, which is not there."""

    def collect(self) -> Iterator[Any]:
        """Skip all of it, if it is Python at all."""
        compile(self.path.read_bytes(), str(self.path), "exec")
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
