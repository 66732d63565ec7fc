"""Base class of the classifiers of images: the options that all of them have, and their checks."""

from __future__ import annotations

from typing import Any

from separable.nn.models._blocks import positive, share
from separable.nn.models._network import Network

__all__ = ["ImageClassifier"]

COUNTS = ("resolution", "classes", "in_channels")
SHARES = ("dropout", "drop_path")


class ImageClassifier(Network):
    """Network that takes images of any size and returns logits.

    Parameters
    ----------
    side : int
        Height and width of the usual image.
    options : Any
        See `Network`. Those named ``resolution``, ``classes`` and ``in_channels`` must be at least 1, ``dropout`` and
        ``drop_path`` at least 0 and below 1; ``in_channels`` must be among them.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If one of these is out of its range or of another type.
    """

    def __init__(self, side: int, **options: Any) -> None:
        super().__init__((options["in_channels"], side, side), "images", **options)
        positive(**{name: options[name] for name in COUNTS if name in options})
        share(**{name: options[name] for name in SHARES if options.get(name) is not None})
