"""LayerProfile: measured times of the steps of networks on one computer, for each runtime."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from separable.errors import MachineError
from separable.machine import Primitives, cache_path, known_primitives
from separable.machine.machine_profile import ADJUSTED, HERE, MEASURED, ORIGINS, SHIPPED, write_json
from separable.nn.step_times.step_work import COPY, StepWork
from separable.nn.step_times.time_model import StepTime, TimeModel
from separable.system import processor_name
from separable.value import Value

__all__ = ["LayerProfile", "current_profile", "forget_profile", "keep_profile", "profile_path"]

FORMAT = 2  # sizes of convolutions say which programs run them since 2
SHIPPED_FILE = "layers_avx512_amd_zen4.json"
LARGEST_RATIO = 8.0  # of a primitive here and there, as for filters


@dataclass(frozen=True, eq=False)
class LayerProfile(Value):
    """Measured times of the steps of networks on one computer.

    Attributes
    ----------
    name : str
        Processor and date.
    threads : int
        Number of threads that it was measured with.
    models : mapping
        runtime -> kind of step -> `TimeModel`.
    calls : mapping of str to float
        Seconds that one call of a network takes besides its steps, per runtime.
    source : str
        "measured"; "this computer"; "adjusted" or "shipped" if it comes with the package.
    processor : str
        Name of the processor; empty if unknown.
    primitives : Primitives
        Elementary operations of the same computer.
    """

    name: str
    threads: int
    models: Mapping[str, Mapping[str, TimeModel]]
    calls: Mapping[str, float] = field(default_factory=dict)
    source: str = MEASURED
    processor: str = ""
    primitives: Primitives = field(default_factory=Primitives)

    @property
    def origin(self) -> str:
        """Whose times these are, as a table says it."""
        text = ORIGINS.get(self.source, f"{{name}} ({self.source})").format(name=self.name)
        return text.replace("`separable machine`", "`separable machine --layers`")

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes that were measured."""
        return tuple(self.models)

    def predict(self, runtime: str, work: StepWork) -> StepTime:
        """Return the time of one step; of a kind that was not measured, the time of a copy of its bytes.

        Raises
        ------
        MachineError
            If the runtime was not measured.
        """
        models = self._models(runtime)
        model = models.get(work.kind)
        if model is not None:
            return model.predict(work)
        sizes = (math.log2(max(1.0, work.bytes / 8)), 0.0, 0.0)
        return models[COPY].predict(StepWork(COPY, sizes, 0.0, work.bytes))

    def has_kind(self, runtime: str, kind: str) -> bool:
        """Return whether steps of a kind were measured for a runtime."""
        return kind in self._models(runtime)

    def _models(self, runtime: str) -> Mapping[str, TimeModel]:
        found = self.models.get(runtime)
        if not found or COPY not in found:
            known = ", ".join(self.models) or "none"
            raise MachineError(
                f"no times of layers in {runtime!r} are known; there are {known}. "
                "Measure them with `separable machine --layers`"
            )
        return found

    def adjusted(self, here: Primitives) -> LayerProfile:
        """Return the profile that follows for a computer of which only the primitives are known.

        Calls are scaled by the time of a NumPy call, multiplications by that of a multiply-add, bytes by that of a
        copy in memory.
        """

        def ratio(name: str) -> float:
            found = here.ratio(name, self.primitives)
            return 1.0 if math.isnan(found) else min(max(found, 1 / LARGEST_RATIO), LARGEST_RATIO)

        factors = (ratio("numpy_call"), ratio("fma"), ratio("memory_copy"))
        models = {
            runtime: {kind: model.scaled(factors) for kind, model in kinds.items()}
            for runtime, kinds in self.models.items()
        }
        calls = {runtime: seconds * factors[0] for runtime, seconds in self.calls.items()}
        return replace(self, models=models, calls=calls, source=ADJUSTED, primitives=here)

    def only(self, runtimes: Iterable[str]) -> LayerProfile:
        """Return the profile with some of its runtimes."""
        return replace(self, models={r: self.models[r] for r in runtimes if r in self.models})

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "processor": self.processor,
            "threads": self.threads,
            "primitives": self.primitives.to_dict(),
            "calls": {r: float(f"{s:.4g}") for r, s in self.calls.items()},
            "models": {
                runtime: {kind: model.to_dict() for kind, model in kinds.items()}
                for runtime, kinds in self.models.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Any, source: str = MEASURED) -> LayerProfile:
        """Read a profile from JSON values.

        Raises
        ------
        MachineError
            If the values are not a profile of layers.
        """
        try:
            if values["format"] != FORMAT:
                raise MachineError(
                    f"profile of layers of format {FORMAT} expected; got {values['format']!r}. "
                    "Run `separable machine --layers` to measure again"
                )
            models = {
                str(runtime): {str(k): TimeModel.from_dict(m) for k, m in kinds.items()}
                for runtime, kinds in values["models"].items()
            }
            return cls(
                str(values["name"]), int(values["threads"]), models,
                {str(r): float(s) for r, s in values["calls"].items()}, source,
                str(values["processor"]), Primitives.from_dict(values["primitives"]),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            if isinstance(error, MachineError):
                raise
            raise MachineError(
                f"not a profile of layers ({type(error).__name__}: {error}). "
                "Run `separable machine --layers` to measure again"
            ) from None


def profile_path() -> Path:
    """Return the path of the profile of layers of this computer, beside that of filters."""
    return cache_path().with_name("layers.json")


@lru_cache(maxsize=1)
def current_profile() -> LayerProfile:
    """Return the measured profile of this computer, or the one in the package, adjusted to it.

    A profile in the cache that cannot be read, or that is of another computer, is ignored.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError, KeyError, TypeError):
        values = json.loads(profile_path().read_text(encoding="utf-8"))
        found = LayerProfile.from_dict(values, HERE)
        if found.processor in ("", processor_name()):
            return found
    return shipped_profile().adjusted(known_primitives())


@lru_cache(maxsize=1)
def shipped_profile() -> LayerProfile:
    """Return the profile in the package, as it was measured there."""
    file = resources.files("separable").joinpath("data").joinpath(SHIPPED_FILE)
    return LayerProfile.from_dict(json.loads(file.read_text(encoding="utf-8")), SHIPPED)


def keep_profile(measured: LayerProfile) -> None:
    """Use this profile, measured on this computer, from now on; raise OSError if it cannot be written."""
    write_json(profile_path(), measured.to_dict())
    forget_profile()


def forget_profile() -> None:
    """Read the file again when a profile is needed next."""
    current_profile.cache_clear()
