"""Folding of operations into the convolution before them, as runtimes that compile networks do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.step_times.step_work import KINDS, PRODUCTS, StepWork, joined_work, work_of

__all__ = ["PROGRAM_RULES", "FoldingRules", "PlacedStep", "folded_steps"]


@dataclass(frozen=True)
class PlacedStep:
    """One step that a runtime runs.

    Attributes
    ----------
    layer : str
        Path of the module that it belongs to.
    work : StepWork
    joined : tuple of str
        Other modules whose operations it computes too.
    """

    layer: str
    work: StepWork
    joined: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoldingRules:
    """Operations that a runtime computes together with a convolution.

    Attributes
    ----------
    activations : frozenset of str
        Operations that follow a convolution at no cost.
    products : bool
        Whether they also follow a matrix product.
    joins : bool
        Whether a depthwise and a pointwise convolution after it are one step.
    """

    activations: frozenset[str]
    products: bool = False
    joins: bool = False


PROGRAM_RULES = FoldingRules(
    frozenset({"relu", "hardtanh", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu"}),
    products=True, joins=True,
)  # fmt: skip
"""What the programs of fused networks fold."""


@dataclass
class _Group:
    """A step with what was folded into it."""

    operations: list[RecordedOperation]
    value: int  # number of its result
    weighted: bool  # whether it is a convolution or a product
    has_addition: bool = False
    has_activation: bool = False
    joined: bool = False
    layers: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Return whether a normalisation or an addition can follow."""
        return self.weighted and not self.has_addition and not self.has_activation


def folded_steps(operations: Sequence[RecordedOperation], rules: FoldingRules) -> list[PlacedStep]:
    """Return the steps that are left after folding; a folded operation belongs to its convolution.

    Normalisation is folded into the weights, zeros around an input into the padding, an addition of
    another value of the same shape and an activation into the convolution that ends there.
    """
    uses = Counter(number for o in operations for number in o.reads)
    groups: list[_Group] = []
    made_by: dict[int, _Group] = {}
    for operation in operations:
        group = _absorbed(operation, made_by, uses, rules)
        if group is None:
            number = operation.writes[0] if operation.writes else -1
            group = _new_group(operation, number, made_by, uses, rules, groups)
        else:
            group.layers.append(operation.layer)
            group.value = operation.writes[0]
        made_by[group.value] = group
    return [_placed(g) for g in groups]


def _absorbed(
    operation: RecordedOperation,
    made_by: dict[int, _Group],
    uses: Counter[int],
    rules: FoldingRules,
) -> _Group | None:
    """Return the group that an operation is folded into, or None."""  # fmt: skip
    before = [made_by[n] for n in operation.reads if n in made_by and uses[n] == 1]
    before = [g for g in before if g.weighted]
    if not before or not operation.writes:
        return None
    kind = KINDS.get(operation.name, "")
    if kind == "batch_norm":
        return before[0] if before[0].open else None
    if kind == "add" and operation.name.startswith("add"):
        return _added(operation, before)
    last = before[0]
    if operation.name in rules.activations and len(operation.reads) == 1:
        if last.has_activation or (last.operations[-1].name in PRODUCTS and not rules.products):
            return None
        last.has_activation = True
        return last
    return None


def _added(operation: RecordedOperation, before: Sequence[_Group]) -> _Group | None:
    """Return the last group that an addition of two values of one shape can be folded into."""
    shapes = set(operation.input_shapes)
    if len(operation.reads) != 2 or len(shapes) != 1:
        return None
    for group in reversed(before):
        convolution = group.operations[-1].convolution
        alone = convolution is not None and convolution.groups > 1
        if group.open and not alone:
            group.has_addition = True
            return group
    return None


def _new_group(
    operation: RecordedOperation,
    number: int,
    made_by: dict[int, _Group],
    uses: Counter[int],
    rules: FoldingRules,
    groups: list[_Group],
) -> _Group:
    """Add a group for an operation, which takes up zeros around its input and a depthwise step."""  # fmt: skip
    weighted = operation.convolution is not None or operation.name in PRODUCTS
    before = made_by.get(operation.reads[0]) if operation.reads else None
    once = bool(operation.reads) and uses[operation.reads[0]] == 1
    if before is not None and once and operation.convolution is not None:
        if before.operations[-1].name == "constant_pad_nd":
            groups.remove(before)
        elif rules.joins and _joins(before, operation):
            before.operations.append(operation)
            before.layers.append(operation.layer)
            before.joined, before.value, before.has_activation = True, number, False
            return before
    group = _Group([operation], number, weighted, layers=[operation.layer])
    groups.append(group)
    return group


def _joins(before: _Group, operation: RecordedOperation) -> bool:
    """Return whether a group is a depthwise convolution and an operation a pointwise one."""
    first, second = before.operations[-1].convolution, operation.convolution
    if first is None or second is None or before.joined or before.has_addition:
        return False
    depthwise = first.groups == first.channels > 1 and not first.transposed
    pointwise = second.groups == 1 and not second.transposed and max(second.kernel) == 1
    return depthwise and pointwise and max(second.stride) == 1


def _placed(group: _Group) -> PlacedStep:
    layers = tuple(dict.fromkeys(group.layers))
    first = group.operations[0]
    if group.joined:
        last = group.operations[1]
        assert first.convolution is not None
        assert last.convolution is not None
        return PlacedStep(
            last.layer, joined_work(first.convolution, last.convolution),
            tuple(n for n in layers if n != last.layer),
        )  # fmt: skip
    return PlacedStep(first.layer, work_of(first), tuple(n for n in layers if n != first.layer))
