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

__all__ = ["ConvertedLayer", "Report"]

Array = NDArray[Any]


@dataclass(frozen=True)
class ConvertedLayer:
    """Result for one convolution, converted or left alone.

    Attributes
    ----------
    name : str
        Its path in the model; the model itself is "".
    aliases : tuple of str
        Other paths of the same module.
    kind : str
        The class it had.
    weight_shape : tuple of int
    pattern : str
        What it is written in now; empty if it was left alone.
    ranks : mapping of str to int or list of int
        For each bond.
    terms : mapping of str to int
        For each bond the ranks of all batch values added up.
    multiplications, multiplications_before : int
        In all calls; for one position of the output where no input's shape is known.
    parameters, parameters_before : int
    weight_error : float
        Relative, in the Frobenius norm; of weights fitted to data that is no measure of quality.
    output_error : float
        Relative to the output's deviation from its mean (root mean square), measured on the data
        with what comes in from the converted layers before; NaN without data.
    seconds, seconds_before : float
        Measured, the median of a few runs; NaN if not measured.
    reason : str
        Why it was left alone; empty if it was converted.
    spectrum : mapping of str to ndarray
        For each bond the squares of the singular values relative to their sum, descending.
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
        What was asked for.
    inputs : tuple of str
        What multiplications and times are counted for; empty if no shape was known.
    layers : tuple of ConvertedLayer
        Every convolution, in the order of the model's modules.
    multiplications, multiplications_before : int or None
        Of the whole network by `separable.nn.ledger`; None where no input's shape is known: then
        those of the layers are for one position of their outputs.
    parameters, parameters_before : int
        Of the whole network.
    output_error : float
        Of the network's outputs on the data, relative to their deviation from their mean; NaN
        without data.
    plain_output_error : float
        The same for a conversion to the same patterns and ranks that does not know the data.
    tradeoff : ndarray, shape (points, 2)
        For the whole network (for its convolutions where no input's shape is known) multiplications
        and the root mean square of the layers' relative errors, from the fewest multiplications to
        the dense network; before any fit to data.
    untied : tuple of tuple of str
        Parameters of the network as it was that were one and are not any more, group by group: layers
        that are fitted to data, or get other ranks, have factors of their own.

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
            Where to draw; new if not given.
        """
        from separable.nn.convert.plots import plot_tradeoff  # it imports this module

        return plot_tradeoff(self, ax)

    def plot_spectrum(self, layer: str, ax: Any = None) -> Any:
        """Plot a layer's singular values and how many were kept; return Matplotlib's Axes.

        Parameters
        ----------
        layer : str
            Its name.
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
