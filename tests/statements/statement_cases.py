"""The frame of the matrix test: cases of (format, statement), and the ways a file is filtered.

A module ``*_statements.py`` of this folder holds the cases of some formats::

    @case("TIFF", "white is zero")
    def white_is_zero(run: Run) -> None:
        source = run.folder / "in.tif"
        tifffile.imwrite(source, GREY, photometric="miniswhite")    # the reference library
        result = run(source, "box:3")
        with Image.open(result) as found: ...                       # another program than ours

`run` filters from the command line or from Python, whole or by parts; the test runs the case once for
each way that its format supports. A file that is rejected: ``run.refused(source, "a regex")``.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separable import files, volumes
from separable.cli.main import run as command
from separable.errors import SeparableError
from separable.files.image_filter import filter_whole_file
from separable.files.opening import open_source
from separable.files.several_images import chosen_images
from separable.kernels import parse_spec

__all__ = ["CASES", "WAYS", "Case", "Run", "Way", "case", "cells", "sides_of"]


@dataclass(frozen=True)
class Way:
    """From the command line or from Python, whole or by parts."""

    name: str
    python: bool
    parts: bool

    def __str__(self) -> str:
        return self.name


WAYS = (
    Way("command, whole", python=False, parts=False),
    Way("command, by parts", python=False, parts=True),
    Way("Python, whole", python=True, parts=False),
    Way("Python, by parts", python=True, parts=True),
)
Case = Callable[["Run"], None]
CASES: dict[tuple[str, str], list[Case]] = {}


def case(format: str, *statements: str) -> Callable[[Case], Case]:
    """Register a case for one or more statements of a format."""

    def register(function: Case) -> Case:
        for statement in statements:
            CASES.setdefault((format, statement), []).append(function)
        return function

    return register


def cells() -> list[tuple[files.Format, str]]:
    """All cells of the table in which a file can be written."""
    return [
        (format, name)
        for format in files.registered_formats()
        for name, answer in format.statements.items()
        if answer.kind != "cannot occur"
    ]


def sides_of(shape: Sequence[int], chunks: Sequence[int] | None) -> tuple[int, ...]:
    """Return slabs that cut an array along its first axis, at chunk borders if it has chunks."""
    step = chunks[0] if chunks else max(1, shape[0] // 3)
    return (min(step, shape[0]), *shape[1:])


@dataclass
class Run:
    """One way to filter the file of a case; what was printed or noted is in `text`."""

    folder: Path
    way: Way
    monkeypatch: pytest.MonkeyPatch
    text: str = ""
    count: int = field(default=0)

    def __call__(
        self, source: Path, kernel: str = "box:3", target: str = "", **options: Any
    ) -> Path:
        """Filter a file and return the result; options are those of Python: ``dtype="float32"``."""
        status, result = self._filter(source, kernel, target, options)
        assert status == 0, self.text
        return result

    def refused(self, source: Path, pattern: str, kernel: str = "box:3", **options: Any) -> None:
        """Check that a file is rejected with one message, and that nothing is left behind."""
        before = {p.name for p in self.folder.iterdir()}
        status, _ = self._filter(source, kernel, "", options)
        assert status == 2, self.text
        assert re.search(pattern, self.text), self.text
        assert {p.name for p in self.folder.iterdir()} == before

    def _filter(
        self, source: Path, kernel: str, target: str, options: dict[str, Any]
    ) -> tuple[int, Path]:
        self.count += 1
        ending = target or source.name[source.name.index(".") :]
        result = self.folder / f"out{self.count}{ending}"
        if self.way.parts:
            self._cut()
        run = self._python if self.way.python else self._command
        return run(source, result, kernel, options), result

    def _command(self, source: Path, target: Path, kernel: str, options: dict[str, Any]) -> int:
        words = ["filter", str(source), str(target), "-k", kernel]
        for name, value in options.items():
            words += [f"--{name}", *([] if value is True else [str(value)])]
        if self.way.parts:
            words += ["--memory", "64GiB"]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command(words)
        if status == 2:
            assert err.getvalue().count("\n") == 1, err.getvalue()
        self.text = out.getvalue() + err.getvalue()
        return status

    def _python(self, source: Path, target: Path, kernel: str, options: dict[str, Any]) -> int:
        if "dtype" in options:
            options = {**options, "output": options["dtype"]}
            del options["dtype"]
        try:
            self.text = "\n".join(self._notes(source, target, kernel, options))
        except SeparableError as error:
            self.text = str(error)
            return 2
        return 0

    def _notes(
        self, source: Path, target: Path, kernel: str, options: dict[str, Any]
    ) -> tuple[str, ...]:
        if self.way.parts:
            with open_source(source) as opened:
                weights = _kernel(kernel, opened.info, opened.ndim)
            numbers = chosen_images(source, target, options.get("image", "auto"), by_parts=True)
            if len(numbers) > 1:
                return self._joined(source, target, numbers, kernel, options)
            with volumes.Run(
                source, target, weights, operation="correlate", memory="64GiB", **options
            ) as run:
                run()
                return (*run.notes, *run.target.notes)
        image, info = files.read_image(source)
        weights = _kernel(kernel, info, image.ndim)
        if files.count_images(source) > 1:
            return filter_whole_file(source, target, weights, operation="correlate", **options)
        done = files.filter_image(image, info, weights, operation="correlate", **options)
        lost = files.write_image(target, done.image, done.info)
        return (*done.info.notes, *lost)

    def _joined(
        self, source: Path, target: Path, numbers: tuple[int, ...], kernel: str, options: Any
    ) -> tuple[str, ...]:
        """Filter all images of a file by parts, each with the kernel for its own axes and spacing."""
        with volumes.JoinedImages(source, target, numbers, {"kernel": kernel, **options}) as joined:
            for number in joined.waiting():
                with open_source(source, image=number) as opened:
                    weights = _kernel(kernel, opened.info, opened.ndim)
                given = {"operation": "correlate", "memory": "64GiB", **options}
                with joined.run(number, weights, **given) as run:
                    run()
                joined.record(number, run)
            joined.finish()
        return tuple(joined.notes)

    def _cut(self) -> None:
        """Cut into several slabs, as if the memory were small."""
        from separable.volumes import slab_schedule
        from separable.volumes.slab_planner import Stage

        def first(whole: Any, source: Any, target: Any, *_: Any) -> Stage:
            sides = sides_of(whole.problem.shape, target or source)
            return Stage(whole, 0, sides, source, target)

        self.monkeypatch.setattr(slab_schedule, "best_stage", first)


def _kernel(text: str, info: files.ImageInfo, ndim: int) -> Any:
    """Return the named kernel along the spatial axes, in the spacing of the file if it has units."""
    from separable.kernels.units import has_units, unit_of

    axes = info.space(ndim)
    if not has_units(text):
        return parse_spec(text, len(axes))
    steps = [float((info.spacing or ())[a] or np.nan) for a in axes]
    return parse_spec(text, len(axes), spacing=steps, unit=unit_of(info.unit))
