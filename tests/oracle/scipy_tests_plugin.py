"""A pytest plugin that runs SciPy's own tests of `scipy.ndimage` on the functions of ours.

The modules of tests are imported here, before pytest collects them, with a stand-in for
`scipy.ndimage`: the functions that `separable.ndimage` has are ours, all other names are SciPy's.
`scipy.ndimage` itself stays as it is, for methods of the engine call it. What became of each test,
and whether it called a function of ours, is written as JSON to the file that OUTCOMES names.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scipy.ndimage

from separable import ndimage as ours

TESTS = ("scipy.ndimage.tests.test_filters", "scipy.ndimage.tests.test_interpolation")
OUTCOMES = "SEPARABLE_SCIPY_OUTCOMES"

called = False
outcomes: dict[str, dict[str, Any]] = {}


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of ours that notes its calls."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        global called
        called = True
        return function(*arguments, **options)

    return call


def stand_in() -> types.ModuleType:
    """Return a module like `scipy.ndimage` with the functions of ours."""
    theirs = scipy.ndimage
    module: Any = types.ModuleType(theirs.__name__)
    module.__getattr__ = lambda name: getattr(theirs, name)
    # SciPy 1.16 and newer look up here which libraries of arrays a function takes.
    library = importlib.import_module("scipy._lib._array_api")
    capabilities = getattr(library, "xp_capabilities_table", {})
    for name in ours.__all__:
        function = counted(getattr(ours, name))
        setattr(module, name, function)
        if getattr(theirs, name) in capabilities:
            capabilities[function] = capabilities[getattr(theirs, name)]
    return module


def pytest_configure() -> None:
    theirs = scipy.ndimage
    scipy.ndimage = stand_in()
    try:
        for name in TESTS:
            importlib.import_module(name)
    finally:
        scipy.ndimage = theirs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    global called
    called = False
    try:
        return (yield)
    finally:
        item.user_properties.append(("ours", called))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and report.outcome == "passed":
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    outcomes[report.nodeid.rpartition("::")[2]] = {
        "outcome": report.outcome,
        "ours": dict(report.user_properties).get("ours", False),
        "message": "" if crash is None else crash.message,
    }


def pytest_sessionfinish() -> None:
    Path(os.environ[OUTCOMES]).write_text(json.dumps(outcomes))
