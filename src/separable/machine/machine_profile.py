"""Machine: the rates of one computer, as a value that is kept in a JSON file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import MachineError
from separable.machine.primitives import Primitives
from separable.value import Value

__all__ = [
    "ADJUSTED",
    "HERE",
    "MEASURED",
    "SHIPPED",
    "Machine",
    "Rates",
    "nearest_dtype",
    "write_json",
]

FORMAT = 2
FORMATS = (1, FORMAT)  # the first one had no primitives
LARGEST_RATIO = (
    8.0  # of a primitive here and there: a probe that was disturbed must not decide alone
)
MEASURED, HERE, ADJUSTED, SHIPPED = "measured", "this computer", "adjusted", "shipped"
ORIGINS = {
    MEASURED: "measured on {name}",
    HERE: "measured on this computer ({name})",
    ADJUSTED: (
        "of a reference computer ({name}), adjusted to this one by a short probe; "
        "`separable machine` measures them"
    ),
    SHIPPED: "of a reference computer ({name}); `separable machine` measures those of this one",
}
Rates = Mapping[str, Mapping[str, Mapping[str, float]]]
Scales = Mapping[str, Mapping[str, str]]


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
        Origin of the rates: "measured"; "this computer" if it was this one; "adjusted" from a profile of the
        package, or "shipped" with it.
    primitives : Primitives
        Elementary operations of the same computer, measured at the same time.
    scales : mapping
        method -> kind of operation -> the primitive that its time is proportional to.
    vector_bits : int
        Width of the vectors that the compiled engine used; 0 if unknown.
    processor : str
        Name of the processor; empty if unknown.
    notes : str
        How the rates were obtained, where that needs to be said.
    """

    name: str
    threads: int
    rates: Rates
    source: str = MEASURED
    primitives: Primitives = field(default_factory=Primitives)
    scales: Scales = field(default_factory=dict)
    vector_bits: int = 0
    processor: str = ""
    notes: str = ""

    @property
    def origin(self) -> str:
        """Whose rates these are, as a plan says it."""
        return ORIGINS.get(self.source, f"{{name}} ({self.source})").format(name=self.name)

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

    def adjusted(self, here: Primitives) -> Machine:
        """Return the rates that follow for a computer of which only the primitives are known.

        Each rate is multiplied by the ratio of the primitive that it is proportional to. Rates whose primitive is
        not declared, or not known of both computers, stay as they are.

        Examples
        --------
        >>> rates = {"fused": {"float32": {"tap": 1e-11, "call": 1e-6}}}
        >>> m = Machine("m", 1, rates, primitives=Primitives(fma=1e-11), scales={"fused": {"tap": "fma"}})
        >>> m.adjusted(Primitives(fma=3e-11)).rates["fused"]["float32"]
        {'tap': 3e-11, 'call': 1e-06}
        """

        def factor(method: str, kind: str) -> float:
            found = here.ratio(self.scales.get(method, {}).get(kind, ""), self.primitives)
            return 1.0 if math.isnan(found) else min(max(found, 1 / LARGEST_RATIO), LARGEST_RATIO)

        rates = {
            m: {d: {k: v * factor(m, k) for k, v in r.items()} for d, r in t.items()}
            for m, t in self.rates.items()
        }
        return replace(self, rates=rates, source=ADJUSTED, primitives=here)

    def completed(self, other: Machine) -> Machine:
        """Return this profile with the rates of another one for kinds of operations that it does not contain.

        A profile that an older version measured lacks what was added since; without a rate it would be free.
        """

        def rates_of(method: str) -> dict[str, Mapping[str, float]]:
            own, theirs = self.rates.get(method, {}), other.rates.get(method, {})
            return {d: {**theirs.get(d, {}), **own.get(d, {})} for d in {**theirs, **own}}

        return replace(self, rates={m: rates_of(m) for m in {**other.rates, **self.rates}})

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "processor": self.processor,
            "vector_bits": self.vector_bits,
            "threads": self.threads,
            "notes": self.notes,
            "primitives": self.primitives.to_dict(),
            "scales": {m: dict(kinds) for m, kinds in self.scales.items()},
            "rates": {m: {d: dict(r) for d, r in t.items()} for m, t in self.rates.items()},
        }

    @classmethod
    def from_dict(cls, values: Any, source: str = MEASURED) -> Machine:
        """Read a profile from JSON values, of this format or an older one.

        Raises
        ------
        MachineError
            If the values are not a profile.
        """
        try:
            if values["format"] not in FORMATS:
                raise MachineError(
                    f"machine profile of format {FORMAT} expected; got {values['format']!r}. "
                    "Run `separable machine` to measure again"
                )
            rates = {
                str(m): {str(d): {str(k): float(v) for k, v in r.items()} for d, r in t.items()}
                for m, t in values["rates"].items()
            }
            scales = {
                str(m): {str(k): str(p) for k, p in kinds.items()}
                for m, kinds in values.get("scales", {}).items()
            }
            return cls(
                str(values["name"]), int(values["threads"]), rates, source,
                Primitives.from_dict(values.get("primitives", {})), scales,
                int(values.get("vector_bits", 0)), str(values.get("processor", "")),
                str(values.get("notes", "")),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, MachineError):
                raise
            raise MachineError(
                f"not a machine profile ({type(error).__name__}: {error}). "
                "Run `separable machine` to measure again"
            ) from None

    def save(self, path: Path) -> None:
        """Write the profile; the file appears once it is complete."""
        write_json(path, self.to_dict())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file under a temporary name first, so that no process reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)


def nearest_dtype(dtype: np.dtype[Any]) -> str:
    """Return the measured data type that is used for this one, by its size."""
    if dtype.kind in "biu":
        return {1: "uint8", 2: "uint16"}.get(dtype.itemsize, "float64")
    return "float32" if dtype.itemsize <= (8 if dtype.kind == "c" else 4) else "float64"
