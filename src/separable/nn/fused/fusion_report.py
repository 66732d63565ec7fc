"""FusionReport: what `fuse` did, and the time that it saves."""

from __future__ import annotations

from dataclasses import dataclass

from separable.engine.availability import why_not
from separable.nn.fused.program.measurement import NetworkTimes, SegmentTime
from separable.nn.ties import Ties, ties_text

__all__ = ["FusionReport"]


@dataclass(frozen=True)
class FusionReport:
    """Result of `fuse`.

    Attributes
    ----------
    fused : tuple of (str, str)
        Names of fused modules, and of the layers each one consists of.
    left : tuple of (str, str)
        Convolutions left to PyTorch, and the reasons.
    difference : float
        Largest difference of the outputs for the example, relative to the largest output.
    untied : tuple of tuple of str
        Parameters that the model shared (tied) and that are separate constants in the fused network.
    times : NetworkTimes or None
        Times of the network on the example, before and after; None if they were not measured.
    segments : tuple of SegmentTime
        Times of the parts that run as one program each, and of PyTorch's operators in their place.
    whole : tuple of (str, str)
        The network, named by an empty string, and the reason why it is not recorded as a whole, if so.
    origin : str
        Whose times the predicted ones are; empty if there are none.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from separable.nn import fuse
    >>> net = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
    >>> fused, report = fuse(net.eval(), torch.randn(1, 4, 9, 9))
    >>> report.fused, report.left
    ((('0', 'pointwise, norm, relu'), ('3', 'convolution')), ())
    """

    fused: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...]
    difference: float
    untied: Ties = ()
    times: NetworkTimes | None = None
    segments: tuple[SegmentTime, ...] = ()
    whole: tuple[tuple[str, str], ...] = ()
    origin: str = ""

    def __str__(self) -> str:
        lines = [] if self.times is None else [str(self.times)]
        if self.origin:
            lines.append(f"not measured; predicted from times of {self.origin}")
        lines += [f"  {segment}" for segment in self.segments]
        lines.append(
            f"{_counted(len(self.fused), 'chain')} fused, outputs differ by {self.difference:.1e} "
            "of the largest output"
        )
        if why_not():
            lines[-1] += f"; PyTorch runs them, without the compiled engine: {why_not()}"
        else:
            lines += [f"  not one program: {reason}" for _, reason in self.whole]
        lines += [f"  {name}: {what}" for name, what in self.fused]
        if self.left:
            lines.append(f"{_counted(len(self.left), 'convolution')} left to PyTorch")
            lines += [f"  {name}: {why}" for name, why in self.left]
        lines += ties_text(self.untied)
        return "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
