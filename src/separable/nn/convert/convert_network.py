"""convert: a trained network -> the same network with separable convolutions, and a report."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.scheme import Scheme
from separable.nn.convert.calibration import Calibration
from separable.nn.convert.channel_blocks import grouped_scheme, split_refs, with_groups
from separable.nn.convert.conversion import Conversion, Progress, copied, device_of
from separable.nn.convert.conversion_goal import Budget
from separable.nn.convert.conversion_report import Report
from separable.nn.convert.convert_request import Patterns, Request, schemes_for, without_pattern
from separable.nn.convert.layer_prices import LayerPrices
from separable.nn.convert.layer_refs import find_layers, selected
from separable.nn.convert.rank_decision import decide
from separable.nn.convert.report_builder import build_report
from separable.nn.convert.score_search import ScoreSearch
from separable.nn.convert.trace import traced, traced_singly
from separable.nn.convert.user_score import Metric
from separable.nn.runtimes.known_runtimes import runtime_named

__all__ = ["convert"]


def convert(
    model: nn.Module,
    pattern: Patterns = "ocyx -> oc,cyx",
    *,
    rank: int | Mapping[str, int] | None = None,
    tol: float | None = None,
    budget: Budget | None = None,
    data: Iterable[Any] | None = None,
    input_shape: Any = None,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    min_saving: float = 1.0,
    ridge: float = 1e-3,
    sweeps: int = 2,
    repeats: int = 5,
    runtime: str | None = None,
    metric: Metric | None = None,
    evaluations: int = 60,
    progress: Progress | None = None,
) -> tuple[nn.Module, Report]:
    """Replace the convolutions of a trained network by separable ones.

    Parameters
    ----------
    model : torch.nn.Module
        Any module; it is not changed. Convolutions are found among its children at any depth; a
        module that occurs several times is converted once and shared again.
    pattern : str, mapping of layer name to str or None, or "auto"
        Pattern of the factors. A pattern for images also fits layers over one and three axes if it
        keeps the spatial axes together. Names in a mapping are those of layers or of modules that
        contain them, ``*`` matches anything; None leaves a layer alone. "auto" chooses among
        depthwise first, pointwise first, spatial (``ox,cy``), Tucker-2 and leaving the layer
        dense; it needs `budget` or `tol`. In every layer with a pattern, channels whose weights are
        zero between blocks become groups first, which is exact.
    rank : int or mapping of bond to int, optional
        Rank of every layer, limited to the largest rank that its weights can have.
    tol : float, optional
        Largest relative error of each layer, which gets the fewest multiplications within it. It
        refers to the weights, or with data to the output. With `metric` it is the largest loss of
        the score of the whole network, in the units of the metric: 0.01 of an accuracy in 0 .. 1.
    budget : float or str, optional
        A number is the largest number of multiplications relative to the original network, as
        `ledger` counts them; "2x faster" or "0.5 time" is a time relative to the original network
        in `runtime`. Patterns and ranks are then chosen by the time that layers are predicted to
        take, the best candidates of each layer and whole networks are measured, and ranks are
        those that kernels run well: equal for all channels, multiples of the vector width. `tol`
        may be given too: a goal that cannot be met within it is missed, and the report says how far
        it gets. With batches of data it also holds for one sample, where operations that run once per
        call weigh more. Ranks are chosen over all layers and channels together, in the order of
        the error that each multiplication saves. Needs `data` or `input_shape`.
    data : iterable of batches, optional
        Calibration data: inputs of the network as tensors, tuples or mappings, without labels; a
        few tens of images are enough. The factors are then fitted, layer after layer, to the
        layers' actual inputs and wanted outputs, and biases are corrected (added where a layer had
        none). Only sums are stored, no activations. An iterator is stored as a list.
    input_shape : tuple of int, or list of such, optional
        Shape of the input as for `ledger`, to count multiplications without data.
    include, exclude : iterable of str, optional
        Layers to convert, or not to convert; names as in a mapping of patterns.
    min_saving : float
        Layers whose multiplications would not shrink by this factor are left alone. With 1, the
        default, no layer becomes more expensive; 0 converts at any cost.
    ridge : float
        Strength of the pull towards the trained weights in a fit to data, relative to the variance
        of an input. The default of 1e-3 has little effect with ten thousand positions, and
        stabilises fits to few.
    sweeps : int
        Number of times that each channel's factors are fitted again given all others, for
        depthwise separable layers with data.
    repeats : int
        Number of timed runs of each layer, of which the shortest counts; 0 measures no times, neither of layers nor of the
        network, so that a budget in time goes by predictions alone.
    runtime : "torch", "fused" or "onnxruntime", optional
        What will run the network: PyTorch's operators one by one (the default), the programs of
        `fuse`, or ONNX Runtime. The report's first line is about its time there.
    metric : function, optional
        Function of a network that returns its score: one finite number, higher is better; for
        instance the accuracy on labelled validation data. It decides which layers, patterns and
        ranks are chosen: each layer alone is converted and scored, the losses are weighed against
        predicted time or multiplications, and whole networks are scored. Needs `budget` (the best
        score within it), `tol` (the fewest multiplications with at most that loss) or both (a
        budget that would cost more than `tol` is missed). It gets a copy of the network in
        evaluation mode, without gradients, on the model's device. Choose it on other data than you
        report results on.
    evaluations : int
        Largest number of calls of `metric`, at least 8. With the default of 60, networks of up to
        20 layers have each layer scored at two costs; in larger ones the most expensive layers are
        scored at one, and the losses of the others follow from their errors.
    progress : function, optional
        Function called with the current activity, the number of layers done, and their total.

    Returns
    -------
    model : torch.nn.Module
        A copy, in the same mode, on the same device.
    report : Report
        Result for every convolution.

    Raises
    ------
    ArgumentError
        If there is no convolution, a name matches none, a budget cannot be met, the data is
        empty, has NaN or cannot be run through the model, or the metric raises an exception or
        returns NaN or an infinite number.
    ArgumentTypeError, RankError, PatternError
        If an argument is of another type, or out of range.

    Notes
    -----
    Without `rank`, `tol` and `budget`, the converted network is exact to rounding. The squared error
    of a depthwise separable layer of depth multiplier M is the sum over the input channels of the
    squares of the singular values beyond M. On the given data, the error of the output is never
    larger than without data, because the better of both networks is returned.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.Conv2d(32, 64, 3))
    >>> small, report = convert(net, rank=2, input_shape=(1, 3, 16, 16), repeats=0)
    >>> small[1]
    FactoredConv(
      32, 64, kernel_size=(3, 3), padding=(0, 0), 'ocyx -> oc,cyx', R=2; 4,672 multiplications
      per position, 3.95 times fewer than 18,432 dense
      (factor_cyx): Conv2d(32, 64, kernel_size=(3, 3), stride=(1, 1), groups=32, bias=False)
      (factor_oc): Conv2d(64, 64, kernel_size=(1, 1), stride=(1, 1))
    )
    >>> report.multiplications, report.multiplications_before
    (720984, 2823552)

    The choice by a score, here how close the outputs for some images stay:

    >>> images = torch.rand(4, 3, 16, 16)
    >>> with torch.no_grad():
    ...     wanted = net(images)
    >>> def agreement(model):
    ...     return 1 - ((model(images) - wanted).std() / wanted.std()).item()
    >>> small, report = convert(
    ...     net, "auto", budget=0.5, metric=agreement, data=images.split(2), repeats=0)
    >>> report.score.before, report.score.after > 0.5, report.score.evaluations <= 60
    (1.0, True, True)
    """
    request = Request(
        pattern, rank, tol, budget, min_saving, ridge, sweeps, repeats, runtime, metric, evaluations
    )
    result, work = _prepared(model, request, data, input_shape, include, exclude, progress)

    # Step 3: error curves, and a choice for each layer.
    work.draw_curves()
    if metric is not None:
        return _by_score(model, result, work)
    chosen = with_blocks(work, decide(work))

    # Step 4: the layers.
    without = work.convert_plain(chosen, result if data is None else copied(result))
    if data is None or not chosen:
        return without, build_report(work, model, without, chosen)
    with_data = work.convert_with_data(chosen, result)

    # Step 5: the better of the two.
    layers, error = work.output_errors(with_data, list(chosen))
    plain_layers, plain_error = work.output_errors(without, list(chosen))
    best = with_data
    if error > plain_error:
        best, layers, error = without, plain_layers, plain_error
    report = build_report(
        work, model, best, chosen, output_errors=layers, error=error, plain_error=plain_error
    )
    return best, report


def with_blocks(work: Conversion, chosen: dict[str, Scheme]) -> dict[str, Scheme]:
    """Add the layers that are not factorised and get a group for each block of channels."""
    blocks = {
        r.name: grouped_scheme(r)
        for r in work.refs
        if r.whole is not None and r.name not in chosen and r.reason != "does not run"
    }
    work.refs = [replace(r, reason="") if r.name in blocks else r for r in work.refs]
    order = {name: at for at, name in enumerate(r.name for r in work.open())}
    return dict(sorted((chosen | blocks).items(), key=lambda item: order[item[0]]))


def _by_score(model: nn.Module, result: nn.Module, work: Conversion) -> tuple[nn.Module, Report]:
    """Choose and convert the layers by the user's score; see `score_search`."""
    search = ScoreSearch(work)
    chosen = with_blocks(work, search.chosen())
    original = copied(result)
    convert_layers = work.convert_plain if work.calibration is None else work.convert_with_data
    best = search.better(convert_layers(chosen, result), chosen, original)
    layers: dict[str, float] = {}
    error = plain_error = math.nan
    if work.calibration is not None and chosen:
        without = work.convert_plain(chosen, original)
        layers, error = work.output_errors(best, list(chosen))
        plain_error = work.output_errors(without, list(chosen))[1]
    report = build_report(
        work, model, best, chosen, output_errors=layers, error=error, plain_error=plain_error
    )
    losses = [replace(x, score_loss=search.loss_alone(x.name)) for x in report.layers]
    return best, replace(report, layers=tuple(losses), score=search.change())


def _prepared(
    model: nn.Module,
    request: Request,
    data: Iterable[Any] | None,
    input_shape: Any,
    include: Iterable[str] | None,
    exclude: Iterable[str],
    progress: Progress | None,
) -> tuple[nn.Module, Conversion]:
    """Check all arguments, copy the model, find its layers and trace how they run."""
    # Step 1: check the request and find the layers that it names.
    request.check()
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    needs = "`budget`" if request.budget is not None else "`metric`" if request.metric else ""
    if needs and data is None and input_shape is None:
        raise ArgumentError(
            f"{needs} needs the network's multiplications: give `data` or `input_shape`, "
            "for instance input_shape=(1, 3, 224, 224)"
        )
    result = copied(model)
    refs = find_layers(result)
    if not refs:
        raise ArgumentError(f"`model` {type(model).__name__} has no convolution to convert")
    refs = split_refs(without_pattern(selected(refs, include, exclude), request.pattern))
    result = with_groups(result, refs)
    refs, schemes = schemes_for(refs, request.pattern)

    # Step 2: how often the layers run, on what shapes.
    calibration = None if data is None else Calibration(data, device_of(model))
    trace = traced(model, refs, calibration, input_shape)
    if trace is not None:
        refs = [s if s.name in trace.shapes else s.left("does not run") for s in refs]
    single = None
    if needs and calibration is not None:
        single = traced_singly(model, refs, calibration)
    reference = with_groups(copied(model).eval(), copy.deepcopy(refs))
    work = Conversion(request, reference, refs, schemes, calibration, trace, progress, single)
    if any(r.whole is not None for r in refs):
        work.original = copied(model).eval()
    if trace is not None:
        work.prices = LayerPrices(runtime_named(request.runtime or "torch"), trace.shapes)
        work.inputs = _inputs_of_call(calibration, input_shape, model)
    return result, work


def _inputs_of_call(
    calibration: Calibration | None, input_shape: Any, model: nn.Module
) -> tuple[Any, ...]:
    """Return inputs to measure a call with: one sample of the data, or random numbers of the shape.

    The whole first batch where a sample is not one entry along the first axis of all inputs, for instance if
    one of them is a state with another order of axes, or if a file takes a fixed number of samples.
    """
    if calibration is not None:
        first = calibration.first
        if first is None or first.kwargs:
            return ()
        sizes = {x.shape[:1] for x in first.tensors}
        if len(sizes) != 1 or getattr(model, "fixed_batch", None):
            return first.args
        return tuple(x[:1] if isinstance(x, torch.Tensor) and x.dim() else x for x in first.args)
    like = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    shapes = input_shape if isinstance(input_shape, list) else [input_shape]
    generator = torch.Generator().manual_seed(0)
    return tuple(
        shape if isinstance(shape, torch.Tensor)
        else torch.rand(tuple(shape), generator=generator).to(like)
        for shape in shapes
    )  # fmt: skip
