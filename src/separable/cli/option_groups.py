"""Groups of options that several commands share, and help texts that list what is registered."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from separable.borders import registered_borders
from separable.cli.options import (
    Axes,
    Cval,
    KernelText,
    MethodName,
    Mode,
    Operation,
    SpacingText,
    Tol,
    integers,
    modes,
)
from separable.engine import registered_methods
from separable.engine.registry import CANDIDATES
from separable.files import registered_formats

__all__ = ["FilterOptions", "list_registered", "with_option_groups"]


@dataclass(frozen=True)
class FilterOptions:
    """Options of a filter, as they were typed: those of `separable filter` and `separable plan`."""

    kernel: KernelText
    axes: Axes = None
    mode: Mode = "reflect"
    cval: Cval = 0.0
    tol: Tol = None
    method: MethodName = "auto"
    operation: Operation = None
    spacing: SpacingText = None

    @property
    def image_axes(self) -> tuple[int, ...] | None:
        """Image axes to filter; None if --axes is not given."""
        return None if self.axes is None else integers("--axes", self.axes, ",")

    @property
    def for_plan(self) -> dict[str, Any]:
        """Keywords of `plan`, except those that the kernel and the image decide."""
        return {
            "mode": modes(self.mode),
            "cval": self.cval,
            "tol": self.tol,
            "method": self.method,
        }


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of each parameter that is a dataclass.

    Typer reads options from the signature of a function. The returned function has a signature in which
    such a parameter is replaced by the fields of its class; it builds the objects and calls the command.

    Examples
    --------
    >>> def show(options: FilterOptions, twice: bool = False) -> None:
    ...     print(options.kernel, options.mode, twice)
    >>> list(inspect.signature(with_option_groups(show)).parameters)[:3]
    ['kernel', 'axes', 'mode']
    >>> with_option_groups(show)(kernel="box:3", mode="wrap", twice=True)
    box:3 wrap True
    """
    # Not `typing.get_type_hints`: in Python 3.10 it wraps options whose default is None, and loses their names and texts.
    given_parameters = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: p.annotation for name, p in given_parameters.items() if is_dataclass(p.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in given_parameters.values():
        if parameter.name in groups:
            parameters += _options_of(groups[parameter.name])
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            own = {f.name: given.pop(f.name) for f in fields(kind) if f.name in given}
            given[name] = kind(**own)
        command(**given)

    del run.__wrapped__  # whose hints Typer would read instead
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _options_of(group: type) -> list[inspect.Parameter]:
    """Return the fields of a dataclass as parameters."""
    hints = typing.get_type_hints(group, include_extras=True)

    def default(field: Field[Any]) -> Any:
        return inspect.Parameter.empty if field.default is MISSING else field.default

    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default(field),
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]  # fmt: skip


def list_registered(command: Any) -> None:
    """Have the help of the commands list the border modes, methods and formats registered now."""
    texts = {
        "mode": _mode_help,
        "method": _method_help,
        "source": _source_help,
        "target": _target_help,
    }
    names = ("filter", "bank", "features", "plan", "resample")
    filters = [command.commands[name] for name in names]
    for parameter in (p for one in filters for p in one.params):
        if parameter.name in texts:
            parameter.help = texts[parameter.name]()


def _mode_help() -> str:
    names = _either(border.name for border in registered_borders())
    return f"Border mode: {names}; or one per axis, for example wrap,reflect."


def _method_help() -> str:
    own = (method.name for method in registered_methods() if method.own_candidate)
    return (
        f"Method: auto (the fastest), {_either([*CANDIDATES, *own])}. `separable plan` lists those "
        "that can run a filter."
    )


def _source_help() -> str:
    able = (f.name for f in registered_formats() if f.read is not None or f.open is not None)
    return f"Input file: {_formats(able)}; the format follows from the suffix."


def _target_help() -> str:
    able = (f.name for f in registered_formats() if f.write is not None or f.create is not None)
    return f"Output file: {_formats(able)}; the format follows from the suffix."


def _formats(names: Iterable[str]) -> str:
    """Return names of formats as text, compressed variants under the same name."""
    return _either(dict.fromkeys(name.partition(" (")[0] for name in names))


def _either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"
