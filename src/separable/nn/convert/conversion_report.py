"""Report of a conversion: the result for each convolution and for the whole network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.nn.convert.network_times import NetworkDuration
from separable.nn.convert.runtime_comparison import RuntimeComparison
from separable.nn.convert.user_score import ScoreChange

__all__ = ["ConvertedLayer", "Report"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ConvertedLayer:
    """Result for one convolution, converted or left alone.

    Attributes
    ----------
    name : str
        Path of the layer in the model; "" for the model itself.
    aliases : tuple of str
        Other paths of the same module.
    kind : str
        Class of the original layer.
    weight_shape : tuple of int
    pattern : str
        Pattern of the factors; empty if the layer was left alone.
    ranks : mapping of str to int or list of int
        Rank of each bond.
    terms : mapping of str to int
        Sum of the ranks of all batch values, per bond.
    groups : int
        Groups of channels of the converted layer; 1 if it was left alone.
    multiplications, multiplications_before : int
        Multiplications in all calls; per output position if the input shape is unknown.
    parameters, parameters_before : int
    weight_error : float
        Relative error in the Frobenius norm; no measure of quality for weights fitted to data.
    output_error : float
        Root mean square error relative to the output's deviation from its mean, measured on the
        data with inputs from the converted network; NaN without data.
    seconds, seconds_before : float
        Shortest of the measured times of the layer alone in PyTorch; NaN if not measured.
    score_loss : float
        Loss of the score of the user's metric with this layer alone converted, at the larger of the
        errors that were tried; NaN if it was not scored.
    reason : str
        Reason why the layer was left alone; empty if it was converted.
    spectrum : mapping of str to ndarray
        Squares of the singular values relative to their sum, descending, per bond.
    """

    name: str
    aliases: tuple[str, ...]
    kind: str
    weight_shape: tuple[int, ...]
    pattern: str = ""
    ranks: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, int] = field(default_factory=dict)
    multiplications: int = 0
    multiplications_before: int = 0
    parameters: int = 0
    parameters_before: int = 0
    weight_error: float = 0.0
    output_error: float = math.nan
    seconds: float = math.nan
    seconds_before: float = math.nan
    score_loss: float = math.nan
    groups: int = 1
    reason: str = ""
    spectrum: Mapping[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def converted(self) -> bool:
        """True if the layer was converted."""
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return all but the spectrum as plain numbers and texts."""
        skipped = ("spectrum",)
        found = {k: getattr(self, k) for k in self.__dataclass_fields__ if k not in skipped}
        return {
            k: list(v) if isinstance(v, tuple) else dict(v) if isinstance(v, Mapping) else _plain(v)
            for k, v in found.items()
        }


@dataclass(frozen=True, repr=False)
class Report:
    """Result of a conversion, layer by layer and in total; prints as a table.

    Attributes
    ----------
    model : str
        The class of the network.
    request : str
        The arguments of the conversion as text.
    inputs : tuple of str
        Inputs that multiplications and times refer to; empty if no shape was known.
    layers : tuple of ConvertedLayer
        Every convolution, in the order of the model's modules.
    multiplications, multiplications_before : int or None
        Multiplications of the whole network by `separable.nn.ledger`; None if the input shape is
        unknown, in which case those of the layers are per output position.
    parameters, parameters_before : int
        Parameters of the whole network.
    output_error : float
        Error of the network's outputs on the data, relative to their deviation from their mean;
        NaN without data.
    plain_output_error : float
        Error of a conversion to the same patterns and ranks without the data.
    tradeoff : ndarray, shape (points, 2)
        Multiplications of the whole network (of its convolutions if the input shape is unknown)
        and the root mean square of the layers' relative errors, from the fewest multiplications to
        the dense network, before any fit to data.
    untied : tuple of tuple of str
        Groups of parameters that the original network shared and the result does not: layers that
        are fitted to data, or get different ranks, have factors of their own.
    comparison : RuntimeComparison or None
        Time and outputs of the written file in the runtime that it is made for.
    duration : NetworkDuration or None
        Time of the network before and after in the runtime that will run it; None if the input shape
        is unknown.
    score : ScoreChange or None
        Score before and after by the user's metric.

    Examples
    --------
    >>> import torch
    >>> from separable import nn
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(16, 64, 3), torch.nn.Conv2d(64, 8, 1))
    >>> _, report = nn.convert(net, rank=2, repeats=0)
    >>> [(x.name, x.pattern, x.reason) for x in report.layers]
    [('0', 'ocyx -> oc,cyx', ''), ('1', '', 'nothing to separate')]
    """

    model: str
    request: str
    layers: tuple[ConvertedLayer, ...]
    inputs: tuple[str, ...] = ()
    multiplications: int | None = None
    multiplications_before: int | None = None
    parameters: int = 0
    parameters_before: int = 0
    output_error: float = math.nan
    plain_output_error: float = math.nan
    tradeoff: Array = field(default_factory=lambda: np.zeros((0, 2)))
    untied: tuple[tuple[str, ...], ...] = ()
    comparison: RuntimeComparison | None = None
    duration: NetworkDuration | None = None
    score: ScoreChange | None = None

    @property
    def converted(self) -> tuple[ConvertedLayer, ...]:
        """The converted layers."""
        return tuple(x for x in self.layers if x.converted)

    def __getitem__(self, name: str) -> ConvertedLayer:
        for layer in self.layers:
            if name in (layer.name, *layer.aliases):
                return layer
        raise KeyError(
            f"no convolution {name!r}; there are {', '.join(x.name for x in self.layers)}"
        )

    def table(self, *, width: int = 80) -> str:
        """Return the printed table; columns that do not fit are left out.

        Parameters
        ----------
        width : int
            The widest line.
        """
        from separable.nn.convert.report_text import report_text  # it imports this module

        return report_text(self, width)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the spectra as plain numbers and texts, fit for JSON."""
        names = (
            "model", "request", "multiplications", "multiplications_before", "parameters",
            "parameters_before", "output_error", "plain_output_error",
        )  # fmt: skip
        found = {name: _plain(getattr(self, name)) for name in names}
        found["inputs"] = list(self.inputs)
        found["layers"] = [x.to_dict() for x in self.layers]
        found["tradeoff"] = self.tradeoff.tolist()
        found["untied"] = [list(names) for names in self.untied]
        found["comparison"] = None if self.comparison is None else self.comparison.to_dict()
        found["duration"] = None if self.duration is None else self.duration.to_dict()
        found["score"] = None if self.score is None else self.score.to_dict()
        return found

    def to_json(self) -> str:
        """Return the result of `to_dict` as JSON, which the page of `separable explore` shows."""
        return json.dumps(self.to_dict(), indent=1)

    def to_markdown(self) -> str:
        """Return the table in Markdown, with all columns."""
        from separable.nn.convert.report_text import report_markdown  # it imports this module

        return report_markdown(self)

    def to_html(self) -> str:
        """Return a stand-alone page with the table, the notes below it and charts."""
        from separable.nn.convert.report_html import report_html  # it imports this module

        return report_html(self)

    def plot_tradeoff(self, ax: Any = None) -> Any:
        """Plot error against multiplications of the whole network; return Matplotlib's Axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; created if not given.
        """
        from separable.nn.convert.plots import plot_tradeoff  # it imports this module

        return plot_tradeoff(self, ax)

    def plot_spectrum(self, layer: str, ax: Any = None) -> Any:
        """Plot a layer's singular values and how many were kept; return Matplotlib's Axes.

        Parameters
        ----------
        layer : str
            Name of the layer.
        ax : matplotlib.axes.Axes, optional

        Raises
        ------
        ArgumentError
            If no pattern was tried for that layer.
        """
        from separable.nn.convert.plots import plot_spectrum  # it imports this module

        return plot_spectrum(self, layer, ax)

    def _repr_html_(self) -> str:
        from separable.nn.convert.report_text import report_fragment  # it imports this module

        return report_fragment(self)

    def __str__(self) -> str:
        return self.table(width=max(80, get_terminal_size((80, 24)).columns))

    __repr__ = __str__


def _plain(value: Any) -> Any:
    """Return None for NaN, which JSON cannot represent."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
