"""Help texts of the command line list what is registered when they are printed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from separable import borders, engine, files
from separable.cli import run
from separable.cli.filter_command import filter_command
from separable.cli.main import app
from separable.cli.option_groups import FilterOptions, list_registered
from separable.cli.plan_command import plan_command
from separable.engine.registry import CANDIDATES
from toy_borders import FarEdge


class Twice(engine.Method):
    """A method that is only listed."""

    name, title = "twice", "done twice"


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run([command, "--help"]) == 0
    return re.sub(r"-\s+", "-", " ".join(capsys.readouterr().out.split()))


@pytest.fixture
def registered() -> Iterator[None]:
    readable = files.Format(
        name="slides", suffixes=(".slide",), read=lambda path: ([[1.0]], files.ImageInfo("YX"))
    )
    files.register_format(readable)
    borders.register_border(FarEdge())
    engine.register_method(Twice())
    yield
    files.unregister_format(readable)
    borders.unregister_border("far-edge")
    engine.unregister_method("twice")


def test_help_lists_what_is_registered(
    registered: None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of("filter", capsys)
    source, target = re.findall(r"(?:Input|Output) file: ([^;]*);", text)
    # Slides are not written.
    assert source == target.replace(" or DICOM", ", DICOM") + " or slides"
    assert "wrap, constant or far-edge" in text
    assert "twice" in text
    assert all(name in text for name in CANDIDATES)


def test_help_lists_what_the_package_has(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("filter", "plan"):
        text = help_of(command, capsys)
        assert "Border mode: reflect, mirror, nearest, wrap or constant;" in text
        own = [m.name for m in engine.registered_methods() if m.own_candidate]
        assert f"{', '.join([*CANDIDATES, *own][:-1])} or {own[-1]}." in text
    named = {f.name.partition(" (")[0] for f in files.registered_formats()}
    listed = re.findall(r"Input file: ([^;]*);", help_of("filter", capsys))[0]
    assert set(re.split(", | or ", listed)) == named


def test_filter_and_plan_have_the_same_options_of_a_filter() -> None:
    shared = list(inspect.signature(FilterOptions).parameters)
    for command in (filter_command, plan_command):
        parameters = inspect.signature(command).parameters
        assert [name for name in parameters if name in shared] == shared


def test_every_option_has_a_text() -> None:
    """In Python 3.10 options whose default is None lost their names and texts."""
    command: Any = typer.main.get_command(app)
    list_registered(command)  # those of modes, methods and formats
    bare = [
        f"{name} {option.opts[0]}"
        for name, one in command.commands.items()
        for option in one.params
        if option.opts[0].startswith("-") and not option.help
    ]
    assert not bare
