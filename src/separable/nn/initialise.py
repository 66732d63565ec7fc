"""Random weights for separable layers, drawn with the true fan-in of each step.

What PyTorch draws by default (`reset_parameters`) has the right fan-in for grouped convolutions:
it divides the input's channels by the groups. Its fan-out does not, so
`torch.nn.init.xavier_uniform_` and ``kaiming_normal_(mode="fan_out")`` draw depthwise weights too
small, by the root of the number of channels for a depthwise layer in "fan_out" mode. Keras makes
the opposite slip: it takes a depthwise kernel for a dense one, so that its fan-in is too large by
the number of channels. ``scheme="keras"`` repeats that, for runs that are to be compared.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.step import Step
from separable.nn.factored_conv import FactoredConv

__all__ = ["initialise"]

Distribution = Literal["torch", "he", "glorot", "lecun", "keras"]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def initialise(
    module: AnyModule,
    scheme: Distribution = "he",
    *,
    generator: torch.Generator | None = None,
) -> AnyModule:
    """Draw the weights of all separable layers in a module again, from uniform distributions.

    Parameters
    ----------
    module : torch.nn.Module
        A layer, or a network of them. Other layers are not changed.
    scheme : 'he', 'glorot', 'lecun', 'keras' or 'torch'
        Variance of the weights. With the fan-in of the step (``prod(kernel_size)`` of a depthwise one,
        ``in * depth_multiplier`` of the pointwise one after it):

        * 'he', the default, for a layer behind a ReLU (He et al., 2015,
          doi:10.1109/ICCV.2015.123): ``2 / fan_in`` for the first step, and for one that has a
          module before it; ``1 / fan_in`` for one that takes the step before as it comes, for
          no ReLU has halved that.
        * 'glorot' (Glorot and Bengio, 2010): ``2 / (fan_in + fan_out)``.
        * 'lecun': ``1 / fan_in``.
        * 'keras': Keras's default, Glorot's variance with the fans that Keras computes.
        * 'torch': PyTorch's default, ``1 / (3 fan_in)``: two steps with nothing between them
          give a ninth of their input's variance.
    generator : torch.Generator, optional
        Source of the random numbers.

    Returns
    -------
    torch.nn.Module
        The same module. Biases are zero, except for 'torch'.

    Raises
    ------
    ArgumentError
        If there is no such scheme, or no separable layer in the module.

    Examples
    --------
    >>> from separable.nn import SeparableConv2d
    >>> layer = initialise(SeparableConv2d(64, 64, 3), "lecun")
    >>> bool(abs(layer.depthwise.weight.std() * 3 - 1) < 0.2)
    True
    """
    if scheme not in get_args(Distribution):
        raise ArgumentError(
            f"`scheme` must be one of {', '.join(get_args(Distribution))}; got {scheme!r}"
        )
    if not isinstance(module, nn.Module):
        raise ArgumentTypeError(f"`module` must be a torch.nn.Module; got {module!r}")
    layers = [m for m in module.modules() if isinstance(m, FactoredConv)]
    if not layers:
        raise ArgumentError(f"`module` has no separable layer; got {type(module).__name__}")
    for layer in layers:
        _draw(layer, scheme, generator)
    return module


@torch.no_grad()
def _draw(layer: FactoredConv, scheme: str, generator: torch.Generator | None) -> None:
    between = getattr(layer, "intermediate", None)
    for at, (name, step) in enumerate(zip(layer.step_names, layer.steps, strict=True)):
        fan_in, fan_out = keras_fans(step) if scheme == "keras" else (step.fan_in, step.fan_out)
        variance = {
            "torch": 1 / (3 * fan_in),
            "he": (2 if at == 0 or between is not None else 1) / fan_in,
            "lecun": 1 / fan_in,
        }.get(scheme, 2 / (fan_in + fan_out))
        convolution = getattr(layer, name)
        bound = math.sqrt(3 * variance)
        convolution.weight.uniform_(-bound, bound, generator=generator)
        if convolution.bias is not None:
            limit = 1 / math.sqrt(fan_in) if scheme == "torch" else 0.0
            convolution.bias.uniform_(-limit, limit, generator=generator)


def keras_fans(step: Step) -> tuple[float, float]:
    """Return the fans that Keras computes from the shape of its kernel.

    The shape is ``(*space, in, multiplier)`` for a depthwise convolution and
    ``(*space, in / groups, out)`` for any other.

    Examples
    --------
    >>> from separable.nn import SeparableConv2d
    >>> [keras_fans(s) for s in SeparableConv2d(8, 4, 3, depth_multiplier=2).steps]
    [(72, 18), (16, 4)]
    """
    out, into, *space = step.weight_shape
    taps = math.prod(space)
    if into == 1 and step.groups > 1:
        return taps * step.groups, taps * (out // step.groups)
    return taps * into, taps * out
