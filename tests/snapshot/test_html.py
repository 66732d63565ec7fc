"""HTML that notebooks show for a plan, factors, a bank, a ledger and a report."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.kernels import gaussian, sobel
from separable.machine import Machine
from separable.pages import table_fragment

RATES = Machine(
    "made up", 1,
    {m: {"float32": {"call": 1e-3}} for m in ("dense", "fused", "fft", "overlap", "nested")},
)  # fmt: skip


def plan() -> Any:
    return sep.plan(gaussian(2, ndim=2), (64, 64), "float32", threads=1, machine=RATES)


def factors() -> Any:
    return sep.factorize(np.outer([1.0, 2, 1], [1.0, 0, -1]), "yx -> y,x")


def bank() -> Any:
    kernels = {"a <b>&": gaussian(1, ndim=2), "sobel": sobel(ndim=2)}
    return sep.bank(kernels, (64, 64), "float32", threads=1, machine=RATES)


def network() -> Any:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(conv(8, 16, 3), torch.nn.ReLU(), conv(16, 4, 1)).eval()


def ledger() -> Any:
    net = network()
    return sep.nn.ledger(net, (1, 8, 12, 12))


def report() -> Any:
    net = network()
    return sep.nn.convert(net, rank=1, input_shape=(1, 8, 12, 12), repeats=0)[1]


VALUES: dict[str, Callable[[], Any]] = {
    "plan": plan, "factors": factors, "bank": bank, "ledger": ledger, "report": report,
}  # fmt: skip


class _Reader(HTMLParser):
    """Reads the cells of a table, and sees that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


PLANNED = [  # plans and banks list the compiled methods
    pytest.param(name, marks=pytest.mark.compiled) if name in ("plan", "bank") else name
    for name in VALUES
]


@pytest.mark.parametrize("name", PLANNED)
def test_printed_html(name: str, request: pytest.FixtureRequest) -> None:
    # Predicted times depend on the computer and on its threads.
    text = re.sub(
        r"<p>[^<]*predicted and not measured[^<]*</p>\n", "", VALUES[name]()._repr_html_()
    )
    path = Path(__file__).parent / f"html_{name}.html"
    if request.config.getoption("--rewrite-snapshots"):
        path.write_text(text + "\n", "utf-8")
    assert text + "\n" == path.read_text("utf-8")


@pytest.mark.parametrize("name", VALUES)
def test_tables_are_whole_and_take_the_colours_of_the_page(name: str) -> None:
    value = VALUES[name]()
    reader = read(value._repr_html_())
    assert len({len(row) for row in reader.rows}) == 1
    assert len(reader.rows) >= 3
    assert ("scope", "col") in reader.attributes
    assert ("scope", "row") in reader.attributes
    assert {key for key, _ in reader.attributes} <= {"class", "style", "scope"}
    styles = {value for key, value in reader.attributes if key == "style"}
    assert styles <= {"text-align:left", "text-align:right"}


def test_the_html_table_equals_the_printed_one() -> None:
    p = plan()
    cells = [cell for row in read(p._repr_html_()).rows for cell in row]
    assert all(c.name in cells for c in p.candidates if not c.refused)
    assert "Chosen: " in p._repr_html_()
    names = [row[0] for row in read(bank()._repr_html_()).rows]
    assert names == ["band", "a <b>&", "sobel"]


def test_texts_are_escaped() -> None:
    nasty = '<script>alert("1")</script>&amp;'
    text = table_fragment(nasty, (nasty, "n"), [(nasty, nasty), ("two\nlines", "3")], [nasty])
    assert "<script" not in text
    reader = read(text)
    assert reader.rows[0][0] == nasty
    assert reader.rows[1] == [nasty, nasty]
    assert reader.rows[2] == ["twolines", "3"]
    assert "&amp;amp;" in text


def test_names_of_layers_are_escaped() -> None:
    torch = pytest.importorskip("torch")
    kind = type("<img src=x>", (torch.nn.Sequential,), {})
    net = kind(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3)).eval()
    for value in (
        sep.nn.ledger(net, (1, 3, 9, 9)), sep.nn.convert(net, rank=1, repeats=0)[1]
    ):  # fmt: skip
        assert "<img" not in value._repr_html_()
        assert "&lt;img" in value._repr_html_()


def test_large_values_stay_short() -> None:
    kernels = {f"band {n}": gaussian(1 + n / 8, ndim=2) for n in range(30)}
    many = sep.bank(kernels, (32, 32), "float32", threads=1)
    assert len(read(many._repr_html_()).rows) == 21
    assert "and 10 more bands" in many._repr_html_()
    torch = pytest.importorskip("torch")
    blocks = [torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1)) for _ in range(80)]
    deep = torch.nn.Sequential(torch.nn.Sequential(*blocks[:40]), torch.nn.Sequential(*blocks[40:]))
    assert len(read(sep.nn.ledger(deep.eval(), (1, 2, 4, 4))._repr_html_()).rows) <= 62
    assert math.isfinite(many.seconds)
