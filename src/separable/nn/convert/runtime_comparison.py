"""RuntimeComparison: time and outputs of a converted file next to the original in another runtime."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["RuntimeComparison", "duration"]

NOISE = 1.03  # ratio of two times that repeated measurements of the same file can have
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))


@dataclass(frozen=True)
class RuntimeComparison:
    """Time and outputs of a converted network in the runtime that its file is made for.

    Attributes
    ----------
    runtime : str
        Name of the runtime.
    inputs : str
        Inputs of the run: their shapes, or that they are calibration data.
    seconds_before, seconds : float
        Shortest time of one call of the original and of the converted file, measured in turns.
    output_error : float
        Root mean square difference of the outputs relative to the deviation of the original's from
        their mean; NaN if there is no output of real numbers.

    Examples
    --------
    >>> print(RuntimeComparison("ONNX Runtime", "1x3x32x32", 0.004, 0.002, 0.05).text())
    In ONNX Runtime the converted file takes 2.00 ms per call, the original 4.00 ms: 2.00 times
    faster. Its outputs differ by 5 % (1x3x32x32).
    """

    runtime: str
    inputs: str
    seconds_before: float
    seconds: float
    output_error: float = math.nan

    @property
    def name(self) -> str:
        """Name of the runtime as the argument ``runtime`` has it."""
        return self.runtime.lower().replace(" ", "")

    @property
    def slower(self) -> bool:
        """True if the converted file is slower than the original by more than measurements vary."""
        return self.seconds > NOISE * self.seconds_before

    def time_text(self) -> str:
        """Return the comparison of the times as a sentence."""
        ratio = self.seconds_before / self.seconds
        if self.slower:
            verdict = f"{1 / ratio:.2f} times SLOWER"
        else:
            verdict = f"{ratio:.2f} times faster" if ratio > NOISE else "as fast as before"
        return (
            f"In {self.runtime} the converted file takes {duration(self.seconds)} per call, the "
            f"original {duration(self.seconds_before)}: {verdict}."
        )

    def text(self) -> str:
        """Return the comparison of times and outputs as sentences."""
        if math.isnan(self.output_error):
            return self.time_text()
        percent = 100 * self.output_error
        said = f"{percent:.2g} %" if 0.005 < percent < 1000 else f"a factor of {percent / 100:.2g}"
        return f"{self.time_text()} Its outputs differ by {said} ({self.inputs})."

    def to_dict(self) -> dict[str, Any]:
        """Return all values, with None for NaN, which JSON cannot represent."""
        return {k: None if v != v else v for k, v in asdict(self).items()}


def duration(seconds: float) -> str:
    """Return a time with three digits and a unit; a dash for NaN.

    Examples
    --------
    >>> duration(0.00123), duration(0.1)
    ('1.23 ms', '100 ms')
    """
    if math.isnan(seconds):
        return "-"
    unit, factor = next((u for u in UNITS if seconds >= u[1] * 0.9995), UNITS[-1])
    value = seconds / factor
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:#.3g} {unit}"
