"""The option --image: which of several images of a file is filtered."""

from __future__ import annotations

from typing import Annotated

import typer

from separable.errors import ArgumentError
from separable.files.several_images import ImageChoice

__all__ = ["ImageNumber", "ImageText", "read_choice"]

ImageText = Annotated[
    str,
    typer.Option(
        "--image",
        help="Which image of a file that holds several (animated PNG or GIF, MPO, TIFF): a number from 1, "
        "all, or auto: all where the output holds several.",
        metavar="NUMBER",
    ),
]


ImageNumber = Annotated[
    int | None,
    typer.Option(
        "--image",
        help="Which image of a file that holds several: a number from 1. Default: the first.",
        show_default=False,
        metavar="NUMBER",
    ),
]


def read_choice(text: str) -> ImageChoice:
    """Read ``--image``: a number, all or auto.

    Raises
    ------
    ArgumentError

    Examples
    --------
    >>> read_choice("2"), read_choice("All")
    (2, 'all')
    """
    word = text.strip().lower()
    if word in ("all", "auto"):
        return word
    if not word.isdecimal():
        raise ArgumentError(f"`--image` must be a number from 1, all or auto; got {text!r}")
    return int(word)
