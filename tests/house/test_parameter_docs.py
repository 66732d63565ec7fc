"""Every parameter of a public function is documented, also where docstrings are filled at import."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import separable
from separable import filter_bank, kernels, ndimage, resample

SECTION = re.compile(
    r"^Parameters\n-+\n(.*?)(?=\n\n[A-Z][\w ]*\n-+\n|\Z)", re.DOTALL | re.MULTILINE
)
FUNCTIONS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (separable, filter_bank, kernels, ndimage, resample)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}


def documented(function: Callable[..., Any]) -> set[str]:
    """Return the names in the section "Parameters" of a docstring."""
    section = SECTION.search(inspect.getdoc(function) or "")
    if section is None:
        return set()
    heads = [line for line in section[1].splitlines() if line and not line.startswith(" ")]
    return {name.strip(" *") for head in heads for name in head.partition(" : ")[0].split(",")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented(name: str) -> None:
    function = FUNCTIONS[name]
    assert set(inspect.signature(function).parameters) == documented(function)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_place_of_a_shared_text_is_left_open(name: str) -> None:
    assert "%(" not in (inspect.getdoc(FUNCTIONS[name]) or "")
