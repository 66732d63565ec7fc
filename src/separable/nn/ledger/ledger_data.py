"""Ledger: the cost of each layer of a network, and the total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from separable.cost import Convolution, Cost
from separable.cost.factored_layers_cost import Rank, separate
from separable.errors import ArgumentError
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.pattern import Pattern, parse

if TYPE_CHECKING:
    from separable.nn.ledger.layer_seconds import LayerSeconds

__all__ = ["Call", "Container", "Layer", "Ledger", "Uncounted"]


@dataclass(frozen=True)
class Call:
    """One convolution that ran in a layer.

    Attributes
    ----------
    convolution : Convolution
    is_first : bool
        True if its weights are a parameter that no earlier call used.
    """

    convolution: Convolution
    is_first: bool


@dataclass(frozen=True)
class Container:
    """Module of the model, also one that only calls others.

    Attributes
    ----------
    kind : str
        Name of the module's class.
    calls : int
    input_shape, output_shape : tuple of int
    """

    kind: str
    calls: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """Cost of one module without its children.

    Attributes
    ----------
    name : str
        Path of the module in the model; "" for the model itself.
    kind : str
        Name of the module's class.
    calls : int
        Number of calls; 0 for a module whose parameters are used by other modules only.
    input_shape, output_shape : tuple of int
        Shapes in the first call, with the batch; empty if that is not a tensor.
    cost, backward : Cost
        Cost of all calls. Gradients have no parameters of their own.
    convolutions : tuple of Call
        Convolutions that the module ran.
    separated : Cost or None
        Cost with the dense convolutions separated, after `Ledger.what_if`.
    remark : str
        Reason why it was not separated.
    """

    name: str
    kind: str
    calls: int = 0
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    cost: Cost = field(default_factory=Cost)
    backward: Cost = field(default_factory=Cost)
    convolutions: tuple[Call, ...] = field(default=(), repr=False)
    separated: Cost | None = None
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return all but the convolutions as plain numbers and texts."""
        found: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "calls": self.calls,
            "input_shape": list(self.input_shape),
            "output_shape": list(self.output_shape),
            "cost": self.cost.to_dict(),
            "backward": self.backward.to_dict(),
        }
        if self.separated is not None:
            found |= {"separated": self.separated.to_dict(), "remark": self.remark}
        return found


@dataclass(frozen=True)
class Uncounted:
    """An operation without a formula; its bytes are counted, its arithmetic is not.

    Attributes
    ----------
    layer : str
        The module that ran it.
    operation : str
        As PyTorch calls it.
    reason : str
    calls : int
    """

    layer: str
    operation: str
    reason: str
    calls: int = 1

    def __str__(self) -> str:
        times = f" x {self.calls}" if self.calls > 1 else ""
        return f"{self.operation}{times} in {self.layer or 'the model itself'} ({self.reason})"


@dataclass(frozen=True, repr=False)
class Ledger:
    """Cost of a network, layer by layer and in total; prints as a table.

    Attributes
    ----------
    model : str
        Name of the network's class.
    inputs : tuple of str
        Inputs as text, for instance ``1x3x224x224 float32``.
    training : bool
        True if the model was in training mode.
    layers : tuple of Layer
        Layers in the order of the model's modules.
    uncounted : tuple of Uncounted
        Operations without a formula; empty if everything was counted.
    pattern : Pattern or None
        Argument of `what_if`.
    containers : mapping of str to Container
        Every module by its name.
    operations : tuple of RecordedOperation
        Operations of the forward pass in the order in which they ran.

    Examples
    --------
    >>> import torch
    >>> from separable.nn.ledger import ledger
    >>> found = ledger(torch.nn.Conv2d(3, 256, 5), (1, 3, 12, 12))
    >>> found.total.macs, found.backward.macs, found.total.additions
    (1228800, 1228800, 16384)
    >>> found.what_if("ocyx -> oc,cyx").separated.macs
    53952
    """

    model: str
    inputs: tuple[str, ...]
    training: bool
    layers: tuple[Layer, ...]
    uncounted: tuple[Uncounted, ...] = ()
    pattern: Pattern | None = None
    containers: Mapping[str, Container] = field(default_factory=dict)
    operations: tuple[RecordedOperation, ...] = ()

    @property
    def total(self) -> Cost:
        """Sum of all layers, forward."""
        return sum((layer.cost for layer in self.layers), Cost())

    @property
    def backward(self) -> Cost:
        """Sum of all layers, backward."""
        return sum((layer.backward for layer in self.layers), Cost())

    @property
    def separated(self) -> Cost | None:
        """Sum of all layers, forward, with dense convolutions separated; None without `what_if`."""
        if self.pattern is None:
            return None
        return sum((layer.separated or layer.cost for layer in self.layers), Cost())

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no layer {name!r}; there are {', '.join(x.name for x in self.layers)}")

    def what_if(
        self, pattern: str, *, rank: Rank = 1, sizes: Mapping[str, int] | None = None
    ) -> Ledger:
        """Add the cost that each convolution would have if it were separated.

        Parameters
        ----------
        pattern : str
            Pattern of the weights, for instance ``"ocyx -> oc,cyx"``. It is applied to convolutions
            with the same number of axes; the others are unchanged and get a remark.
        rank : int or mapping of bond to int
            1 if not given; for depthwise separable layers the depth multiplier.
        sizes : mapping of letter to int, optional
            Sizes of the letters of groups ``(Yy)``.

        Returns
        -------
        Ledger
            The same ledger with `Layer.separated` and `Layer.remark`; the remark of a layer that
            becomes more expensive is "dearer".

        Raises
        ------
        PatternError
            If the pattern cannot be read.
        ArgumentError
            If `rank` is not positive, or no convolution has as many axes as the pattern.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(64, 128, 3), torch.nn.Conv2d(128, 64, 1))
        >>> found = ledger(net, (1, 64, 3, 3)).what_if("ocyx -> oc,cyx")
        >>> [(x.cost.macs, x.separated.macs, x.remark) for x in found.layers]
        [(73728, 8768, ''), (8192, 8192, 'nothing to separate')]
        """
        parsed = parse(pattern)
        calls = [call for layer in self.layers for call in layer.convolutions]
        if not any(call.convolution.ndim + 2 == parsed.ndim for call in calls):
            found = sorted({call.convolution.ndim + 2 for call in calls})
            raise ArgumentError(
                f"`pattern` {str(parsed)!r} is of weights with {parsed.ndim} axes; {self.model} "
                + (f"has convolutions with {found}" if found else "has no convolution")
            )
        layers = tuple(_separated(layer, parsed, rank, sizes) for layer in self.layers)
        return replace(self, layers=layers, pattern=parsed)

    def seconds(self, *runtimes: str) -> LayerSeconds:
        """Predict the time of each layer's forward pass on this computer, and what binds it.

        The times come from a profile that ``separable machine --layers`` measures once in about a minute. Without
        it they are those of a reference computer, adjusted to this one by a short probe.

        Parameters
        ----------
        *runtimes : str
            "torch" (PyTorch's operators one by one), "fused" (the programs of `separable.nn.fuse`),
            "onnxruntime"; all that were measured if not given. The profile's number of threads holds.

        Returns
        -------
        LayerSeconds

        Raises
        ------
        ArgumentError
            If there is no such runtime.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> found = ledger(torch.nn.Conv2d(64, 64, 3), (1, 64, 58, 58)).seconds("torch")
        >>> 1e-5 < found.total["torch"] < 1
        True
        """
        from separable.nn.ledger.layer_seconds import predicted_seconds  # it needs PyTorch's parts

        return predicted_seconds(self.model, self.inputs, self.operations, runtimes)

    def merged(self, depth: int) -> Ledger:
        """Return the ledger with layers deeper than `depth` added to the module that contains them.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> block = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU())
        >>> [x.name for x in ledger(torch.nn.Sequential(block, block), (1, 8, 9, 9)).layers]
        ['0.0', '0.1']
        >>> [x.name for x in ledger(torch.nn.Sequential(block), (1, 8, 9, 9)).merged(1).layers]
        ['0']
        """
        merged: dict[str, Layer] = {}
        for layer in self.layers:
            name = ".".join(layer.name.split(".")[:depth])
            if name not in merged:
                outer = self.containers[name]
                merged[name] = Layer(
                    name, outer.kind, outer.calls, outer.input_shape, outer.output_shape,
                    separated=None if self.pattern is None else Cost(),
                )  # fmt: skip
            merged[name] = _joined(merged[name], layer)
        return replace(self, layers=tuple(merged.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and texts, as JSON needs it.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> ledger(torch.nn.Linear(8, 4), (1, 8)).to_dict()["total"]["macs"]
        32
        """
        found: dict[str, Any] = {
            "model": self.model,
            "inputs": list(self.inputs),
            "training": self.training,
            "layers": [layer.to_dict() for layer in self.layers],
            "total": self.total.to_dict(),
            "backward": self.backward.to_dict(),
            "uncounted": [asdict(u) for u in self.uncounted],
        }
        if self.separated is not None:
            found |= {"pattern": str(self.pattern), "separated": self.separated.to_dict()}
        return found

    def to_csv(self) -> str:
        """Return one line per layer with unrounded counts; the last line is the total.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> ledger(torch.nn.Linear(8, 4), (1, 8)).to_csv().splitlines()[0][:34]
        'layer,kind,calls,input,output,mult'
        """
        from separable.nn.ledger.ledger_text import ledger_csv  # it imports this module

        return ledger_csv(self)

    def to_markdown(self) -> str:
        """Return the rows of the printed table in Markdown, for every layer.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> print(ledger(torch.nn.Linear(8, 4), (1, 8)).to_markdown()[:16])
        | layer | kind |
        """
        from separable.nn.ledger.ledger_text import ledger_markdown  # it imports this module

        return ledger_markdown(self)

    def to_html(self) -> str:
        """Return a stand-alone page with a table of all layers and a chart of the largest ones.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> "https://" in ledger(torch.nn.Linear(8, 4), (1, 8)).to_html()
        False
        """
        from separable.nn.ledger.ledger_html import ledger_html  # it imports this module

        return ledger_html(self)

    def table(self, *, width: int = 80, depth: int | None = None) -> str:
        """Return the printed table.

        Parameters
        ----------
        width : int
            The widest line; 80 as terminals have. Columns that do not fit are left out.
        depth : int, optional
            Layers deeper in the model are added to the module they are in. If not given, the
            greatest depth with no more than 60 rows.

        Examples
        --------
        >>> import torch
        >>> from separable.nn.ledger import ledger
        >>> print(ledger(torch.nn.Conv2d(3, 256, 5), (1, 3, 12, 12)).table())
        Conv2d on 1x3x12x12 float32, in training mode
        ...
        """
        from separable.nn.ledger.ledger_text import ledger_text  # it imports this module

        return ledger_text(self, width, depth)

    def _repr_html_(self) -> str:
        from separable.nn.ledger.ledger_text import ledger_fragment  # it imports this module

        return ledger_fragment(self)

    def __str__(self) -> str:
        return self.table(width=max(80, get_terminal_size((80, 24)).columns))

    __repr__ = __str__


def _separated(
    layer: Layer, pattern: Pattern, rank: Rank, sizes: Mapping[str, int] | None
) -> Layer:
    """Return the layer with its cost if separated, or with the reason why it would not be."""
    remarks, cost = [], layer.cost
    for call in layer.convolutions:
        conv = call.convolution
        remark = _refusal(conv, pattern, sizes)
        remarks.append(remark)
        if remark:
            continue
        parts = sum(separate(conv, pattern, rank, sizes).values(), Cost())
        change = parts - conv.cost
        cost += change if call.is_first else replace(change, parameters=0)
    separated = sum(not r for r in remarks)
    remark = next((r for r in remarks if r), "")
    if separated:
        remark = "dearer" if cost.multiplications > layer.cost.multiplications else ""
    return replace(layer, separated=cost if separated else layer.cost, remark=remark)


def _refusal(conv: Convolution, pattern: Pattern, sizes: Mapping[str, int] | None) -> str:
    """Return the reason why a pattern does not separate a convolution, or an empty string."""
    if conv.ndim + 2 != pattern.ndim:
        return f"{conv.ndim + 2} axes"
    if conv.transposed and any(len(axis) > 1 for axis in pattern.axes[2:]):
        return "transposed"
    shape = (conv.filters // conv.groups, conv.channels // conv.groups, *conv.kernel)
    known = pattern.sizes(shape, sizes)
    busy = sum(any(known[a] > 1 for a in pattern.own(k)) for k in range(len(pattern.factors)))
    return "nothing to separate" if busy < 2 else ""


def _joined(outer: Layer, inner: Layer) -> Layer:
    """Add a layer to the row of the module that contains it."""
    separated = None if outer.separated is None else outer.separated + (inner.separated or Cost())
    return replace(
        outer,
        cost=outer.cost + inner.cost,
        backward=outer.backward + inner.backward,
        convolutions=outer.convolutions + inner.convolutions,
        separated=separated,
        remark=inner.remark if inner.name == outer.name else "",
    )
