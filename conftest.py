"""Skip, by name, what needs an optional package that is not installed.

The suite runs with PyTorch and everything else by default. `make test-oldest` and an installation without
Numba run the same files: a module or a test that cannot import a missing package is reported as skipped, with the
package's name. A package that is installed but fails to import is an error everywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest

OPTIONAL = frozenset({
    "PIL", "SimpleITK", "axe_playwright_python", "dask", "distributed", "h5py", "keras", "matplotlib",
    "nibabel", "onnx", "onnxruntime", "onnxscript", "playwright", "pywt", "safetensors", "skimage",
    "sklearn", "spectral", "starlette", "torch", "uvicorn", "xarray", "zarr",
})  # fmt: skip


@lru_cache
def _is_missing(package: str) -> bool:
    return package in OPTIONAL and importlib.util.find_spec(package) is None


def _missing_package(error: BaseException | None) -> str:
    """Return the optional package whose absence raised this error, or an empty string."""
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
