"""Ways to run a filter of a tensor on its device. Every fact about one is an attribute or method of its object.

The tensors' filters, banks and device plans ask the objects in `registered_device_methods`; none compares names. The
methods of `separable.engine` are those of arrays in main memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from separable.engine import Decomposition, Problem
from separable.gpu.device_profile import Device
from separable.gpu.kernel_support import MOST_ELEMENTS, why_not_served
from separable.gpu.tile_cost import Prediction
from separable.process_cache import ProcessCache
from separable.tensors.device.pass_geometry import PassGeometry, straight_run
from separable.tensors.device.pass_operator import (
    KERNEL_DTYPES,
    PassInputs,
    arranged,
    filter_passes,
    geometries,
)
from separable.tensors.device.pass_program import program_of, whole_factors
from separable.tensors.device.tensor_layout import layout_of
from separable.tensors.ops import (
    MOST_AXES,
    correlated,
    exactly,
    scaled_back,
    stored,
    torch_dtype,
)

__all__ = [
    "DeviceMethod",
    "DeviceWork",
    "FusedPasses",
    "PassByPass",
    "register_device_method",
    "registered_device_methods",
    "unregister_device_method",
]


@dataclass(frozen=True, eq=False)
class DeviceWork:
    """One or several filters of one tensor: what a device method runs.

    Attributes
    ----------
    problems : tuple of Problem
        Problem of each band. All properties but the kernel's size are the same.
    forms : tuple of Decomposition
        Kernel of each band.
    dtype : torch.dtype
        Type of the result.
    """

    problems: tuple[Problem, ...]
    forms: tuple[Decomposition, ...]
    dtype: torch.dtype

    @property
    def problem(self) -> Problem:
        """Problem of the first band."""
        return self.problems[0]

    @property
    def double(self) -> bool:
        """True if sums are of double precision."""
        return any(p.work.itemsize > (8 if p.work.kind == "c" else 4) for p in self.problems)

    @property
    def cached(self) -> ProcessCache:
        """Records that methods have built for these filters."""
        return self.forms[0].cached


class DeviceMethod:
    """One way to run filters of a tensor on its device: the base class."""

    name: ClassVar[str] = ""
    """Name that ``method=`` accepts for a tensor."""
    title: ClassVar[str] = ""
    """Name for people, as printed in tables."""
    explanation: ClassVar[str] = ""
    """One line that says how the method computes the result."""

    def refuse(self, image: torch.Tensor, work: DeviceWork) -> str:
        """Return why the method cannot filter a tensor like this one, or an empty string."""
        return ""

    def moved_bytes(self, image: torch.Tensor, work: DeviceWork) -> tuple[int, int]:
        """Return the bytes that are read from and written to memory."""
        raise NotImplementedError

    def predict(self, image: torch.Tensor, work: DeviceWork, device: Device) -> Prediction:
        """Return the predicted time on a device, and what binds it."""
        raise NotImplementedError

    shares_passes: ClassVar[bool] = False
    """Whether several bands are filtered together, with the passes that they share only once."""

    def run(self, image: torch.Tensor, work: DeviceWork) -> torch.Tensor:
        """Return the filtered tensor of each band, of shape (bands, ...), with gradients."""
        raise NotImplementedError


class FusedPasses(DeviceMethod):
    """All passes of all terms and bands in one kernel, which reads the image once and writes each result once."""

    name = "triton"
    title = "fused (Triton)"
    explanation = "runs all passes of all terms and bands in one kernel, with the rows between them in registers"
    shares_passes = True

    def refuse(self, image: torch.Tensor, work: DeviceWork) -> str:
        """Return why the kernel cannot filter a tensor like this one, or an empty string."""
        reason = why_not_served(image, dtypes=KERNEL_DTYPES) if image.device.type != "meta" else ""
        return reason or _no_transform() or self.refuse_shape(image, work)

    def refuse_shape(self, image: torch.Tensor, work: DeviceWork) -> str:
        """Return why the kernel cannot run these filters on any device, or an empty string."""
        p = work.problem
        if any(q.work.kind == "c" or q.exponent for q in work.problems):
            return "complex numbers or weights of extreme scale"
        if len(p.axes) > MOST_AXES:
            return (
                f"the kernel has {len(p.axes)} axes; one launch filters along at most {MOST_AXES}"
            )
        for form in work.forms:
            if not form.separated or not form.terms or any(len(g) > 1 for g in form.groups):
                return "the kernel is not a sum of products of 1-D passes"
        if image.numel() == 0:
            return "the tensor has no elements"
        if image.numel() * len(work.forms) >= MOST_ELEMENTS:
            return (
                f"{image.numel() * len(work.forms):,} outputs are too many for offsets of 32 bits"
            )
        try:
            found = self.geometries(image, work)
        except ValueError as error:
            return str(error)
        return "" if found else "the rows of the passes do not fit into the registers"

    def geometries(self, image: torch.Tensor, work: DeviceWork) -> tuple[PassGeometry, ...]:
        """Return the launches that fit, the best by prediction first."""
        inputs, maps, _ = self._prepared(image, work)
        given, layout = arranged(image, inputs.roles, inputs.axes)
        return geometries(given, layout, [len(m) for m in maps], inputs)

    def moved_bytes(self, image: torch.Tensor, work: DeviceWork) -> tuple[int, int]:
        """Return the bytes of the image and of the results: each is moved once."""
        best = self.geometries(image, work)[0]
        return best.read_bytes, best.written_bytes

    def predict(self, image: torch.Tensor, work: DeviceWork, device: Device) -> Prediction:
        """Return the predicted time of the best tile."""
        return min(
            (g.predicted(device) for g in self.geometries(image, work)), key=lambda p: p.seconds
        )

    def run(self, image: torch.Tensor, work: DeviceWork) -> torch.Tensor:
        """Run the operator, whose tables stay on the device for the next call."""
        inputs, maps, table = self._prepared(image, work)
        device = image.device

        def tables() -> tuple[list[torch.Tensor], torch.Tensor, list[float]]:
            kind = torch.float64 if inputs.double else torch.float32
            weights = torch.as_tensor(table, dtype=kind)
            on_device = [torch.as_tensor(m.astype(np.int32), device=device) for m in maps]
            return on_device, weights.to(device), weights.tolist()

        key = ("device tables", str(device), inputs)
        on_device, weights, numbers = work.cached.get_or_build(key, tables)
        return filter_passes(image, weights, on_device, numbers, inputs)

    def _prepared(self, image: torch.Tensor, work: DeviceWork) -> tuple[PassInputs, list[Any], Any]:
        """Return the arguments of the operator, the index maps and the table of weights."""
        strides = tuple(image.stride())
        key = ("passes", tuple(image.shape), strides, image.dtype, work.dtype, work.forms)
        found: tuple[PassInputs, list[Any], Any] = work.cached.get_or_build(
            key, lambda: _prepare(image, work)
        )
        return found


def _prepare(image: torch.Tensor, work: DeviceWork) -> tuple[PassInputs, list[Any], Any]:
    """Arrange the passes for the order of the tensor's axes in memory, and write the borders as index maps."""
    p = work.problem
    layout = layout_of(image.shape, image.stride(), p.axes)
    if layout is None:
        plain = torch.empty(image.shape, dtype=image.dtype, device="meta")
        layout = layout_of(plain.shape, plain.stride(), p.axes)
    assert layout is not None
    kernel_axis = {axis: k for k, axis in enumerate(p.axes)}
    roles = {role: kernel_axis[layout.order[place]] for role, place in layout.named}
    terms = [_by_axis(form) for form in work.forms]
    if not work.dtype.is_floating_point:
        terms = [[whole_factors(term) for term in own_terms] for own_terms in terms]
    program, table = program_of(terms, [q.lefts for q in work.problems], roles)
    table[0] = float(np.real(p.cval))
    taps = dict(zip("xzy", program.taps, strict=True))
    lefts = dict(zip("xzy", program.lefts, strict=True))
    maps, runs = [], []
    for role, k in roles.items():
        n, left = p.shape[p.axes[k]], lefts[role]
        samples = p.modes[k].samples(n, -left, n + taps[role] - 1 - left)
        run = straight_run(samples)
        maps.append(samples)
        runs += [run.start, run.stop, run.shift]
    axes = tuple(p.axes[k] for k in roles.values())
    inputs = PassInputs(
        "".join(roles), axes, tuple(runs), program, p.fills, work.dtype, work.double
    )
    return inputs, maps, table


def _by_axis(form: Decomposition) -> list[tuple[Any, ...]]:
    """Return the terms with their factors in the order of the kernel's axes."""
    place = [form.groups.index((k,)) for k in range(len(form.groups))]
    return [tuple(term[k] for k in place) for term in form.terms]


def _no_transform() -> str:
    """Return a reason inside transforms of `torch.func` and forward gradients, which the operator does not take."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "a transform of torch.func runs on operations of PyTorch"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode gradients run on operations of PyTorch"
    return ""


class PassByPass(DeviceMethod):
    """Each pass, or the dense kernel, as a convolution of PyTorch."""

    name = "torch"
    title = "pass by pass (PyTorch)"
    explanation = "writes the border out and runs a convolution of PyTorch for each pass"

    def refuse(self, image: torch.Tensor, work: DeviceWork) -> str:
        """Return why PyTorch's convolutions cannot run the filters, or an empty string."""
        if any(
            not f.separated and len(p.axes) > MOST_AXES
            for f, p in zip(work.forms, work.problems, strict=True)
        ):
            return f"PyTorch has dense convolutions along at most {MOST_AXES} axes"
        return ""

    def moved_bytes(self, image: torch.Tensor, work: DeviceWork) -> tuple[int, int]:
        """Return the bytes of the conversions, borders, passes and sums, each of which reads and writes tensors."""
        read = written = 0
        for passes, leaves in (_counted(form) for form in work.forms):
            size = image.numel() * (8 if work.double else 4)
            tensors = 2 * passes + max(0, leaves - 1)  # the border and the convolution of each pass
            read += size * (tensors + max(0, leaves - 1)) + image.numel() * image.dtype.itemsize
            written += size * (tensors + 1)
            if work.dtype != torch_dtype(work.problem.work):
                read += size
                written += image.numel() * work.dtype.itemsize
        return read, written

    def predict(self, image: torch.Tensor, work: DeviceWork, device: Device) -> Prediction:
        """Return the time of the moved bytes, of the multiplications and of the launches."""
        moved = sum(self.moved_bytes(image, work)) / device.memory_rate
        multiplied = sum(f.multiplications for f in work.forms) * image.numel() / device.fma_rate
        launches = sum(3 * passes + leaves for passes, leaves in map(_counted, work.forms))
        binds = "memory" if moved >= multiplied else "sums"
        return Prediction(max(moved, multiplied) + launches * device.launch, binds)

    def run(self, image: torch.Tensor, work: DeviceWork) -> torch.Tensor:
        """Run the passes of each band."""
        found = []
        with exactly(image.device):
            for problem, form in zip(work.problems, work.forms, strict=True):
                values = image.to(torch_dtype(problem.work))
                passed = scaled_back(correlated(values, problem, form), problem.exponent)
                found.append(stored(passed, work.dtype))
        return torch.stack(found) if len(found) > 1 else found[0][None]


def _counted(form: Decomposition) -> tuple[int, int]:
    """Return the number of passes of a form and of results that are added up."""
    return max(1, len(form.passes)), max(1, sum(not p.then for p in form.passes))


_methods: dict[str, DeviceMethod] = {m.name: m for m in (FusedPasses(), PassByPass())}


def registered_device_methods() -> tuple[DeviceMethod, ...]:
    """Return all device methods; where predictions are equal the first one is chosen.

    Examples
    --------
    >>> [method.name for method in registered_device_methods()]
    ['triton', 'torch']
    """
    return tuple(_methods.values())


def register_device_method(method: DeviceMethod) -> DeviceMethod:
    """Add a device method, so that device plans list it and ``method=`` accepts its name for tensors."""
    _methods[method.name] = method
    return method


def unregister_device_method(method: DeviceMethod) -> None:
    """Remove a device method."""
    del _methods[method.name]
