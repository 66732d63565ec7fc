"""The registries of kernels, methods, file formats and border modes have the same functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from separable import borders, engine, files, kernels
from separable.errors import ArgumentError
from toy_borders import FarEdge


def spike(height: float) -> np.ndarray:
    """Return one weight."""
    return np.full((1, 1), height)


class Nothing(engine.Method):
    """A method that fills zeros."""

    name = "nothing"
    title = "nothing"


@dataclass(frozen=True)
class Registry:
    """The three functions of a registry, and how one object is added."""

    module: Any
    noun: str
    plural: str
    add: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.noun

    def remove(self, thing: Any) -> None:
        getattr(self.module, f"unregister_{self.noun}")(thing)

    def listed(self) -> tuple[Any, ...]:
        found = getattr(self.module, f"registered_{self.plural}")()
        assert isinstance(found, tuple)
        return found


REGISTRIES = (
    Registry(kernels, "kernel", "kernels", lambda f: f(spike, {"height": "number"}, ndim=2)),
    Registry(engine, "method", "methods", lambda f: f(Nothing())),
    Registry(files, "format", "formats", lambda f: f(files.Format(
        name="spikes", suffixes=(".spikes",), read=lambda path: (np.eye(2), files.ImageInfo("YX")),
    ))),
    Registry(borders, "border", "borders", lambda f: f(FarEdge())),
)  # fmt: skip


@pytest.mark.parametrize("registry", REGISTRIES, ids=str)
def test_an_object_is_added_listed_and_removed(registry: Registry) -> None:
    before = registry.listed()
    register = getattr(registry.module, f"register_{registry.noun}")
    for by_name in (False, True):
        added = registry.add(register)
        assert registry.listed() == (*before, added)
        with pytest.raises(ArgumentError, match=r"already|is taken"):
            registry.add(register)
        registry.remove(added.name if by_name else added)
        assert registry.listed() == before
        with pytest.raises(ArgumentError, match=f"`{registry.noun}` must be a registered"):
            registry.remove(added)


@pytest.mark.parametrize("registry", REGISTRIES, ids=str)
def test_objects_of_the_package_cannot_be_removed(registry: Registry) -> None:
    before = registry.listed()
    for thing in (before[0], before[0].name):
        with pytest.raises(ArgumentError, match="of the package cannot be removed"):
            registry.remove(thing)
    assert registry.listed() == before


def test_no_registry_has_another_spelling() -> None:
    for registry in REGISTRIES:
        names = {n for n in registry.module.__all__ if "register" in n and "version" not in n}
        noun, plural = registry.noun, registry.plural
        assert names == {f"register_{noun}", f"unregister_{noun}", f"registered_{plural}"}
