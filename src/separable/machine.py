"""Machine profiles: the measured time of each kind of operation on a computer.

A profile is a small JSON file. For each method and data type it contains the seconds of one
operation of each kind that the method counts (`WorkEstimate.counts`). `separable machine` measures this
computer and writes the profile to the user's cache; until then, the profile in the package is used.
The code contains no rates.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import MachineError
from separable.value import Value

__all__ = ["Machine", "cache_path", "current", "shipped"]

FORMAT = 1
Rates = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, eq=False)
class Machine(Value):
    """Measured rates of one computer.

    Attributes
    ----------
    name : str
        Processor and date.
    threads : int
        Number of threads that the rates were measured with.
    rates : mapping
        method -> type of image -> kind of operation -> seconds.
    source : str
        Origin of the profile: "measured" on this computer, or "shipped" with the package.
    """

    name: str
    threads: int
    rates: Rates
    source: str = "measured"

    def predict(
        self, method: str, dtype: np.dtype[Any], counts: Mapping[str, float], threads: int
    ) -> float:
        """Return the seconds that a method takes.

        Parameters
        ----------
        method : str
        dtype : dtype
            Data type of the image; the nearest measured one is used.
        counts : mapping of kind to number of operations
        threads : int

        Returns
        -------
        float
            Seconds; NaN if the profile does not contain the method.
        """
        tables = self.rates.get(method)
        if not tables:
            return math.nan
        rates = tables.get(nearest_dtype(dtype)) or next(iter(tables.values()))
        total = sum(rates.get(kind, 0.0) * count for kind, count in counts.items())
        values = 2 if dtype.kind == "c" else 1
        return total * values * self.threads / max(1, threads)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "threads": self.threads,
            "rates": {m: {d: dict(r) for d, r in t.items()} for m, t in self.rates.items()},
        }

    @classmethod
    def from_dict(cls, values: Any, source: str = "measured") -> Machine:
        """Read a profile from JSON values.

        Raises
        ------
        MachineError
            If the values are not a profile of this version.
        """
        try:
            if values["format"] != FORMAT:
                raise MachineError(
                    f"machine profile of format {FORMAT} expected; got {values['format']!r}. "
                    "Run `separable machine` to measure again"
                )
            rates = {
                str(m): {str(d): {str(k): float(v) for k, v in r.items()} for d, r in t.items()}
                for m, t in values["rates"].items()
            }
            return cls(str(values["name"]), int(values["threads"]), rates, source)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, MachineError):
                raise
            raise MachineError(
                f"not a machine profile ({type(error).__name__}: {error}). "
                "Run `separable machine` to measure again"
            ) from None

    def save(self, path: Path) -> None:
        """Write the profile; the file appears once it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        os.replace(draft, path)
        current.cache_clear()


def nearest_dtype(dtype: np.dtype[Any]) -> str:
    """Return the measured data type that is used for this one, by its size."""
    if dtype.kind in "biu":
        return {1: "uint8", 2: "uint16"}.get(dtype.itemsize, "float64")
    return "float32" if dtype.itemsize <= (8 if dtype.kind == "c" else 4) else "float64"


def cache_path() -> Path:
    """Return the path of the profile of this computer in the user's cache folder."""
    from platformdirs import user_cache_path  # start-up time

    return Path(user_cache_path("separable")) / "machine.json"


@lru_cache(maxsize=1)
def current() -> Machine:
    """Return the profile of this computer, or the one in the package.

    A profile in the cache that cannot be read is ignored, so planning never fails because of it.
    """
    try:
        return Machine.from_dict(json.loads(cache_path().read_text()))
    except (OSError, ValueError):
        return shipped()


def shipped() -> Machine:
    """Return the profile in the package."""
    text = resources.files("separable").joinpath("data/machine.json").read_text()
    return Machine.from_dict(json.loads(text), "shipped")
