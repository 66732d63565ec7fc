"""Docstrings whose repeated parts are written once, as in SciPy."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["docfiller"]

Function = TypeVar("Function", bound=Callable[..., Any])
PLACE = re.compile(r"^( *)%\((\w+)\)s$", re.MULTILINE)


def docfiller(texts: Mapping[str, str]) -> Callable[[Function], Function]:
    r"""Return a decorator that fills in repeated parts of a docstring.

    A line that consists of ``%(name)s`` is replaced by the text of that name, with the line's
    indentation. A text may contain such lines too. The function itself stays as it is; its docstring is complete after the import.

    Parameters
    ----------
    texts : mapping of str to str
        Texts by their names, without indentation.

    Raises
    ------
    KeyError
        If there is no text of a name: the module cannot be imported.

    Examples
    --------
    >>> fill = docfiller({"size": "size : int\n    Number of taps; >= 1."})
    >>> @fill
    ... def box(size):
    ...     '''Return a box.
    ...
    ...     %(size)s
    ...     '''
    >>> print(box.__doc__.splitlines()[3])
            Number of taps; >= 1.
    """

    def text_of(place: re.Match[str]) -> str:
        return textwrap.indent(PLACE.sub(text_of, texts[place[2]]), place[1])

    def fill(function: Function) -> Function:
        if function.__doc__ is not None:  # it is None with python -OO
            function.__doc__ = PLACE.sub(text_of, function.__doc__)
        return function

    return fill
