"""Audit: which layers and transforms of a program are separable, and what they would save."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Audit", "AuditedLayer", "Finding", "Form"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Form:
    """One way to write a layer as factors.

    Attributes
    ----------
    pattern : str
        Pattern of the factors; empty if only the groups of channels change; "average pooling" for a
        layer that `torch.nn.AvgPool2d` or one of its kind computes.
    groups : int
        Groups of channels of the layer in this form.
    ranks : mapping of str to int or list of int
        Rank of each bond; a list has one rank per batch value.
    multiplications : int
        Multiplications in all calls; per output position if the input shape is unknown.
    error : float
        Relative error of the weights in the Frobenius norm; 0 if the form is exact to rounding.
    output_error : float
        Root mean square error of the layer's output on the example, relative to the output's deviation
        from its mean per channel, with the best bias; NaN if the layer was not run.
    """

    pattern: str
    groups: int
    ranks: Mapping[str, Any]
    multiplications: int
    error: float
    output_error: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the form as plain numbers and texts."""
        return {k: _plain(getattr(self, k)) for k in self.__dataclass_fields__}


@dataclass(frozen=True)
class AuditedLayer:
    """Result for one convolution of a program.

    Attributes
    ----------
    name : str
        Path of the module that ran it; "" for the program itself.
    where : str
        Source line of the call, such as ``blur.py:12``, if it is not the call of a convolution module.
    kind : str
        Class of the module, or the function that was called.
    weight_shape : tuple of int
        Shape of the weights as patterns have them, ``(out, in / groups, *kernel)``.
    groups, calls : int
    multiplications : int
        Multiplications in all calls; per output position if the input shape is unknown.
    exact : Form or None
        Cheapest exact form, if it needs fewer multiplications than the layer.
    close : Form or None
        Cheapest form within the tolerance of the audit, if it is cheaper than the exact one.
    cheapest : tuple of Form
        Form with the fewest multiplications in each pattern, in the order of their errors.
    at_half, at_quarter : Form or None
        Form with the smallest error, of the output if it is known, among those with at most a half
        and a quarter of the multiplications.
    seconds_before, seconds, seconds_fused : float
        Shortest measured time of the layer, of its best form, and of that form after `nn.fuse`;
        NaN if not measured.
    notes : tuple of str
        Further properties of the weights, as sentences.
    reason : str
        Reason why the layer was not examined; empty if it was.
    spectrum : mapping of str to ndarray
        Squares of the singular values relative to their sum, descending, per bond; of the pattern
        of `best`, or of the first pattern.
    """

    name: str
    where: str
    kind: str
    weight_shape: tuple[int, ...]
    groups: int = 1
    calls: int = 1
    multiplications: int = 0
    exact: Form | None = None
    close: Form | None = None
    cheapest: tuple[Form, ...] = ()
    at_half: Form | None = None
    at_quarter: Form | None = None
    seconds_before: float = math.nan
    seconds: float = math.nan
    seconds_fused: float = math.nan
    notes: tuple[str, ...] = ()
    reason: str = ""
    spectrum: Mapping[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def best(self) -> Form | None:
        """The form within the tolerance, else the exact one; None if neither saves anything."""
        return self.close or self.exact

    @property
    def is_convertible(self) -> bool:
        """True if `nn.convert` can write the exact form: a pattern or groups for a convolution module."""
        form = self.exact
        if form is None or self.where:
            return False
        return "->" in form.pattern or form.groups > self.groups

    @property
    def title(self) -> str:
        """Name for messages: the path of the module, the source line, or both."""
        return " ".join(t for t in (self.name, self.where) if t) or "(model)"

    def to_dict(self) -> dict[str, Any]:
        """Return all but the spectrum as plain numbers and texts."""
        names = [k for k in self.__dataclass_fields__ if k != "spectrum"]
        return {k: _plain(getattr(self, k)) for k in names}


@dataclass(frozen=True)
class Finding:
    """Something in a program that separability makes cheaper.

    Attributes
    ----------
    kind : str
        "layer", "bank" (convolutions of one input), "transform" (a function that is a linear filter)
        or "fft" (a Fourier transform of separable values).
    names : tuple of str
        Layers, source lines or transforms that it is about.
    text : str
        The finding in a sentence or two, with the remedy.
    multiplications_before, multiplications : int
        Multiplications as the program is, and as it could be.
    """

    kind: str
    names: tuple[str, ...]
    text: str
    multiplications_before: int
    multiplications: int

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain numbers and texts."""
        return {k: _plain(getattr(self, k)) for k in self.__dataclass_fields__}


@dataclass(frozen=True, repr=False)
class Audit:
    """Result of `audit`: every convolution of a program, and what was found; prints as a table.

    Attributes
    ----------
    model : str
        Name of the network's class, or of the function.
    inputs : tuple of str
        Inputs that multiplications and times refer to; empty if no example was given.
    tol : float
        Largest relative error of the weights of `AuditedLayer.close`.
    layers : tuple of AuditedLayer
        Every convolution, in the order of the first calls.
    findings : tuple of Finding
        What separability makes cheaper without any error; empty if nothing does.
    ran_on : str
        Inputs on which the layers' outputs were compared, such as "random numbers"; empty if the
        program was not run, so that errors of outputs are unknown.

    Examples
    --------
    >>> import torch
    >>> from separable import nn
    >>> box = torch.nn.Conv2d(3, 3, 9, groups=3, bias=False)
    >>> _ = torch.nn.init.constant_(box.weight, 1 / 81)
    >>> found = nn.audit(box, repeats=0)
    >>> found.layers[0].exact.pattern, found.layers[0].exact.ranks
    ('cyx -> cy,cx', {'R': 1})
    """

    model: str
    inputs: tuple[str, ...]
    tol: float
    layers: tuple[AuditedLayer, ...]
    findings: tuple[Finding, ...] = ()
    ran_on: str = ""

    @property
    def separable(self) -> tuple[AuditedLayer, ...]:
        """The layers with an exact form that needs fewer multiplications."""
        return tuple(x for x in self.layers if x.exact is not None)

    def __getitem__(self, name: str) -> AuditedLayer:
        for layer in self.layers:
            if name in (layer.name, layer.title):
                return layer
        raise KeyError(
            f"no convolution {name!r}; there are {', '.join(x.title for x in self.layers)}"
        )

    def table(self, *, width: int = 80) -> str:
        """Return the printed table; columns that do not fit are left out.

        Parameters
        ----------
        width : int
            The widest line.
        """
        from separable.nn.audit.audit_text import audit_text  # it imports this module

        return audit_text(self, width)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the spectra as plain numbers and texts, fit for JSON."""
        return {
            "model": self.model,
            "inputs": list(self.inputs),
            "tol": self.tol,
            "layers": [x.to_dict() for x in self.layers],
            "findings": [x.to_dict() for x in self.findings],
            "ran_on": self.ran_on,
        }

    def to_json(self) -> str:
        """Return the result of `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def to_markdown(self) -> str:
        """Return the table in Markdown, with all columns, and the findings."""
        from separable.nn.audit.audit_text import audit_markdown  # it imports this module

        return audit_markdown(self)

    def to_html(self) -> str:
        """Return a stand-alone page with the findings and the table."""
        from separable.nn.audit.audit_text import audit_html  # it imports this module

        return audit_html(self)

    def _repr_html_(self) -> str:
        from separable.nn.audit.audit_text import audit_fragment  # it imports this module

        return audit_fragment(self)

    def __str__(self) -> str:
        return self.table(width=max(80, get_terminal_size((80, 24)).columns))

    __repr__ = __str__


def _plain(value: Any) -> Any:
    """Return a value that JSON can represent; None for NaN."""
    if isinstance(value, (Form, Finding)):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
