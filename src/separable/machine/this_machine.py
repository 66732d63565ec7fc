"""The profile of this computer: measured, or that of the most similar computer in the package, adjusted.

Two files in the user's cache folder: ``machine.json``, which `separable machine` writes, and ``probe-....json``
with the primitives of this computer. Both may be missing, damaged, of another computer or impossible to write:
planning a filter never fails because of them, and never waits for more than the probe.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from separable.machine.machine_profile import HERE, SHIPPED, Machine, write_json
from separable.machine.primitives import Primitives, measure_with_numpy
from separable.machine.vector_width import architecture, vector_bits
from separable.system import processor_name, processor_vendor

__all__ = [
    "cache_path",
    "current",
    "forget",
    "keep",
    "known_primitives",
    "nearest",
    "record_primitives",
    "shipped",
    "shipped_profiles",
]

PROBE_FORMAT = 1
PROFILES = ("avx512_amd_zen4", "avx512_amd_zen5", "avx512_intel", "avx2", "neon")
"""Files in ``data/``. Of two that fit equally well, the first one is used."""


def cache_path() -> Path:
    """Return the path of the profile of this computer in the user's cache folder."""
    from platformdirs import user_cache_path  # start-up time

    return Path(user_cache_path("separable")) / "machine.json"


@lru_cache(maxsize=1)
def current() -> Machine:
    """Return the measured profile of this computer, or the nearest one in the package, adjusted to it.

    A profile in the cache that cannot be read, or that is of another computer, is ignored, so that planning never
    fails because of it.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError, KeyError):
        found = Machine.from_dict(_read(cache_path()), HERE)
        own = found.processor in ("", processor_name())
        if own and found.vector_bits in (0, vector_bits()):
            return found if found.scales else found.completed(_adjusted())  # of the first format
    return _adjusted()


def _adjusted() -> Machine:
    """Return the nearest profile in the package, adjusted to this computer."""
    here = known_primitives()
    return shipped(here).adjusted(here)


def keep(measured: Machine) -> None:
    """Use this profile, measured on this computer, from now on; raise OSError if it cannot be written."""
    measured.save(cache_path())
    if measured.primitives.is_complete:
        record_primitives(measured.primitives)
    current.cache_clear()


def forget() -> None:
    """Read the files again when a profile is needed next."""
    current.cache_clear()
    _known.clear()


# Profiles in the package


@lru_cache(maxsize=1)
def shipped_profiles() -> tuple[Machine, ...]:
    """Return the profiles in the package."""
    folder = resources.files("separable").joinpath("data")
    texts = (folder.joinpath(f"{name}.json").read_text(encoding="utf-8") for name in PROFILES)
    return tuple(Machine.from_dict(json.loads(text), SHIPPED) for text in texts)


def shipped(here: Primitives | None = None) -> Machine:
    """Return the profile in the package that is nearest to this computer, as it was measured there."""
    known = known_primitives() if here is None else here
    return nearest(shipped_profiles(), vector_bits(), processor_vendor(), known)


def nearest(profiles: Sequence[Machine], bits: int, vendor: str, here: Primitives) -> Machine:
    """Return the profile of the most similar computer.

    Vectors of the same width come first. Of several such profiles, the one whose primitives have the most similar
    proportions is taken; until the compiled engine has measured its primitives, the first one of the same vendor.

    Parameters
    ----------
    profiles : sequence of Machine
    bits : int
        Width of the engine's vectors.
    vendor : str
        Vendor of the processor; empty if unknown.
    here : Primitives
        Primitives of this computer, as far as they are known.
    """

    def rank(profile: Machine) -> tuple[float, bool, float]:
        width = abs(math.log2(max(1, profile.vector_bits) / bits))
        if here.is_complete:
            return width, False, here.distance(profile.primitives)
        return width, vendor not in profile.processor, 0.0

    return min(profiles, key=rank)


# Primitives of this computer


_known: dict[str, Primitives] = {}  # of this process, by `_computer()`


def known_primitives() -> Primitives:
    """Return what is known of this computer; if nothing is, probe it with NumPy, in a few milliseconds."""
    key = _computer()
    found = _known.get(key)
    if found is None:
        found = _read_probe(key)
        if found is None:
            found = measure_with_numpy()
            _write_probe(key, found)
        _known[key] = found
    return found


def record_primitives(measured: Primitives) -> None:
    """Use these primitives of this computer from now on, in later processes too if the cache can be written."""
    key = _computer()
    _write_probe(key, measured)
    _known[key] = measured
    current.cache_clear()


def _computer() -> str:
    """Return processor, instruction set and vector width.

    A cache folder may be shared by different computers, and the engine may be limited to narrower vectors.
    """
    return f"{processor_name()}, {architecture()}, {vector_bits()} bits"


def _read_probe(key: str) -> Primitives | None:
    path = _probe_path(key)
    if path is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            values = _read(path)
            if values["format"] == PROBE_FORMAT and values["computer"] == key:
                return Primitives.from_dict(values["primitives"])
    return None


def _write_probe(key: str, found: Primitives) -> None:
    path = _probe_path(key)
    if path is not None:
        values = {"format": PROBE_FORMAT, "computer": key, "primitives": found.to_dict()}
        with contextlib.suppress(OSError):
            write_json(path, values)


def _probe_path(key: str) -> Path | None:
    """Return the path of the file of primitives; None if the user has no home folder."""
    with contextlib.suppress(OSError, RuntimeError, KeyError):
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        path = cache_path().with_name(f"probe-{digest}.json")
        return path if path.is_absolute() else None
    return None


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
