"""The tables of `conversion.py`: quality against multiplications, printed and in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from report import spread
from rich import box
from rich.table import Table

from separable.errors import FileError

__all__ = [
    "BEGIN",
    "END",
    "METHODS",
    "Row",
    "markdown",
    "printed",
    "read_json",
    "replace_marked",
    "write_json",
    "write_markdown",
]

METHODS = ("plain SVD", "data-aware", "fine-tuned", "from scratch")
HEAD = ("multiplications", "÷", "parameters", *METHODS)
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"


@dataclass(frozen=True)
class Row:
    """Row of a table: cost, quality and conversion time of one network."""

    case: str
    seed: int
    method: str
    budget: float
    multiplications: int
    parameters: int
    quality: float
    seconds: float


def cells(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of one case, one per budget.

    Costs are means over the seeds of the data-aware network. The network from scratch has other costs, so
    its ratio of multiplications is given beside its quality.
    """
    before = next(r.multiplications for r in rows if r.method == "dense")
    for budget in dict.fromkeys(r.budget for r in rows if r.method != "dense"):
        at = {m: [r for r in rows if (r.method, r.budget) == (m, budget)] for m in METHODS}
        cost = statistics.fmean(r.multiplications for r in at["data-aware"])
        size = statistics.fmean(r.parameters for r in at["data-aware"])
        found = [spread([r.quality for r in at[m]]) if at[m] else "" for m in METHODS]
        if scratch := at["from scratch"]:
            found[-1] += f" (÷ {before / scratch[0].multiplications:.2f})"
        yield (f"{cost:,.0f}", f"{before / cost:.2f}", f"{size:,.0f}", *found)


def headline(rows: Sequence[Row]) -> str:
    """Return a line with the cost and the quality of the dense network."""
    dense = [r for r in rows if r.method == "dense"]
    costs = f"{dense[0].multiplications:,} multiplications, {dense[0].parameters:,} parameters"
    seeds = f"{len(dense)} seed{'s' * (len(dense) > 1)}"
    return f"dense: {spread([r.quality for r in dense])} ({seeds}) with {costs}"


def _of(rows: Sequence[Row], case: str) -> list[Row]:
    return [r for r in rows if r.case == case]


def printed(rows: Sequence[Row], titles: Mapping[str, str]) -> Iterator[Table]:
    """Yield the table of each case; it fits 80 columns."""
    for case, title in titles.items():
        kept = _of(rows, case)
        table = Table(
            title=f"{title}\n{headline(kept)}", title_justify="left", title_style="",
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0),
        )  # fmt: skip
        for name in ("mult.", "÷", *METHODS):
            table.add_column(name.replace(" ", "\n"), justify="right", vertical="bottom")
        for count, times, _, *qualities in cells(kept):
            table.add_row(count, times, *(q.replace(" (", "\n(") for q in qualities))
        yield table


def markdown(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """Return the tables in Markdown."""
    parts = []
    for case, title in titles.items():
        kept = _of(rows, case)
        lines = ["| " + " | ".join(HEAD) + " |", "| " + " | ".join(["---:"] * len(HEAD)) + " |"]
        lines += ["| " + " | ".join(line) + " |" for line in cells(kept)]
        parts.append("\n".join([f"### {title}", "", f"{headline(kept)}.".capitalize(), "", *lines]))
    return "\n\n".join(parts)


def write_markdown(path: Path, rows: Sequence[Row], titles: Mapping[str, str]) -> None:
    """Write the tables between the marks of a page, or into a new page.

    Raises
    ------
    FileError
        If the page has no such marks.
    """
    replace_marked(path, BEGIN, END, markdown(rows, titles))


def replace_marked(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of a page; a page that does not exist is created.

    Raises
    ------
    FileError
        If the page has no such marks.
    """
    page = path.read_text(encoding="utf-8") if path.exists() else f"{begin}\n{end}\n"
    if not 0 <= page.find(begin) < page.find(end):
        raise FileError(
            f"{path} has no lines `{begin}` and `{end}` for the tables to stand between"
        )
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def write_json(path: Path, rows: Sequence[Row], options: Mapping[str, Any]) -> None:
    """Write all results."""
    told = {"options": options, "torch": torch.__version__, "results": [asdict(r) for r in rows]}
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> list[Row]:
    """Return the rows of a file.

    Raises
    ------
    FileError
        If the file does not contain them.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return [Row(**row) for row in told["results"]]
    except (ValueError, KeyError, TypeError) as problem:
        raise FileError(f"{path} holds no results of `conversion.py`; delete it") from problem
