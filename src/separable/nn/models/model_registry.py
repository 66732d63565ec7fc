"""Networks by name, our own and those of timm and torchvision."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn.models.convnext import LAYOUTS as CONVNEXTS
from separable.nn.models.convnext import ConvNeXt
from separable.nn.models.efficientnet import SCALINGS, EfficientNet
from separable.nn.models.mobilenet import MobileNetV1
from separable.nn.models.mobilenet_inverted import BLOCKS_V3, MobileNetV2, MobileNetV3
from separable.nn.models.multimodal import MultiModalNet
from separable.nn.models.resnet import LAYOUTS as RESNETS
from separable.nn.models.resnet import ResNet
from separable.nn.models.series import SeriesClassifier
from separable.nn.models.spectral import SpatialSpectralNet
from separable.nn.models.unet import UNet
from separable.nn.models.xception import Xception

__all__ = ["create", "names", "sample_shape"]

_TIMM = "timm:"
_TORCHVISION = "torchvision:"
_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    **{f"mobilenet_v3_{v}": functools.partial(MobileNetV3, v) for v in BLOCKS_V3},
    "xception": Xception,
    **{f"efficientnet_{b}": functools.partial(EfficientNet, b) for b in SCALINGS},
    **{f"resnet{n}": functools.partial(ResNet, n) for n in RESNETS},
    **{f"convnext_{v}": functools.partial(ConvNeXt, v) for v in CONVNEXTS},
    "unet": UNet,
    "unet_3d": functools.partial(UNet, 3),
    "spatial_spectral": SpatialSpectralNet,
    "series": SeriesClassifier,
    "multimodal": MultiModalNet,
}


def names() -> tuple[str, ...]:
    """Return the names that `create` knows besides those of timm.

    Examples
    --------
    >>> names()[:3]
    ('mobilenet_v1', 'mobilenet_v2', 'mobilenet_v3_large')
    """
    return tuple(_BUILDERS)


def create(
    name: str,
    *,
    seed: int | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network by name.

    Parameters
    ----------
    name : str
        One of `names`, or ``timm:NAME`` or ``torchvision:NAME`` for a network of these libraries,
        if they are installed.
    seed : int, optional
        The same seed gives the same initial weights on every device, and leaves PyTorch's random
        state as it was. Without it they are drawn from that state.
    device : torch.device or str, optional
        Device of the parameters; "meta" to count without memory for weights.
    **options
        Arguments of the network's constructor, of `timm.create_model` or of
        `torchvision.models.get_model`; ``pretrained=True`` loads the weights of timm or torchvision.

    Raises
    ------
    ArgumentError
        If there is no such network, or its library is not installed.
    ArgumentTypeError
        If the network has no such option.

    Examples
    --------
    >>> create("mobilenet_v1", width=0.5, device="meta").parameter_count()
    1331592
    >>> create("mobilenet_v4")
    Traceback (most recent call last):
    separable.errors.ArgumentError: no network `mobilenet_v4`. Did you mean `mobilenet_v2`?
    """
    if name.startswith(_TIMM):
        build = _timm(name[len(_TIMM) :])
    elif name.startswith(_TORCHVISION):
        build = _torchvision(name[len(_TORCHVISION) :])
    else:
        build = _ours(name)
    _check_options(name, build, options)
    if seed is None:
        with torch.device(device) if device is not None else contextlib.nullcontext():
            return build(**options)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        model = build(**options)
    return model.to(device if device is not None else torch.get_default_device())


def sample_shape(model: nn.Module) -> tuple[int, ...]:
    """Return the shape of a usual input, without its batch, of our network or one of timm.

    Raises
    ------
    ArgumentError
        If the network does not say.

    Examples
    --------
    >>> sample_shape(create("xception", device="meta"))
    (3, 299, 299)
    """
    shape = getattr(model, "sample_shape", None)
    if shape is None:
        settings = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
        shape = (settings or {}).get("input_size")
    if shape is None:
        raise ArgumentError(
            f"`{type(model).__name__}` does not say what its input is: give the shape yourself, "
            "for instance (3, 224, 224)"
        )
    return tuple(shape)


def _ours(name: str) -> Callable[..., nn.Module]:
    key = name.lower().replace("-", "_")
    if key not in _BUILDERS:
        raise ArgumentError(f"no network `{name}`{_nearest(key, names())}")
    return _BUILDERS[key]


def _timm(name: str) -> Callable[..., nn.Module]:
    try:
        timm = importlib.import_module("timm")
    except ImportError as missing:
        raise ArgumentError(
            f"`{_TIMM}{name}` needs timm, which cannot be imported ({missing}). "
            "Install it: pip install timm"
        ) from missing
    # Names with a colon are locations that only timm knows: hf-hub:, local-dir:.
    if ":" not in name and not timm.is_model(name):
        raise ArgumentError(f"timm has no network `{name}`{_nearest(name, timm.list_models())}")
    return functools.partial(timm.create_model, name)


def _torchvision(name: str) -> Callable[..., nn.Module]:
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as missing:  # RuntimeError: built for another PyTorch
        raise ArgumentError(
            f"`{_TORCHVISION}{name}` needs torchvision, which cannot be imported ({missing}). "
            "Install the version for your PyTorch: pip install torchvision"
        ) from missing
    if name not in models.list_models():
        raise ArgumentError(
            f"torchvision has no network `{name}`{_nearest(name, models.list_models())}"
        )

    def build(*, pretrained: bool = False, **options: Any) -> nn.Module:
        weights = models.get_model_weights(name).DEFAULT
        model: nn.Module = models.get_model(
            name, weights=weights if pretrained else None, **options
        )
        preset = weights.transforms()
        size = getattr(preset, "crop_size", None)
        if size:  # networks that classify images; others take images of any size
            found = {"input_size": (3, int(size[0]), int(size[0]))}
            model.pretrained_cfg = found | {"mean": preset.mean, "std": preset.std}  # type: ignore[assignment]
        return model

    return build


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return the most similar known name, ignoring underscores, or all names."""
    plain = {each.replace("_", ""): each for each in known}
    wanted = name.lower().replace("_", "")
    near = difflib.get_close_matches(wanted, plain, n=10)
    if near:  # among similar names, the one with the same beginning
        best = max(near, key=lambda each: _shared_start(each, wanted))
        return f". Did you mean `{plain[best]}`?"
    return f": there are {', '.join(plain.values())}" if len(plain) < 30 else ""


def _shared_start(a: str, b: str) -> int:
    return sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    )


def _check_options(name: str, build: Callable[..., nn.Module], options: dict[str, Any]) -> None:
    parameters = inspect.signature(build).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            raise ArgumentTypeError(
                f"`{name}` has no option `{option}`{_nearest(option, parameters)}"
            )
