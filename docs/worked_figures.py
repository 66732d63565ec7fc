"""Write the table of `figures.md`: the figures that readers know, and where the library shows each of them.

Each row is computed by the library when the page is made; `tests/test_worked_figures.py` also runs every command and
looks for every view and lesson.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import separable as sep

sys.path.insert(0, str(Path(__file__).parent))  # also when the page is loaded by its path
import figure_values as value

__all__ = ["FIGURES", "PAGE", "VIEWS", "Figure", "rows", "written"]

PAGE = Path(__file__).with_name("figures.md")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

VIEWS = {"Kernel": "tab-kernel", "Layers": "tab-layers", "Conversion": "tab-networks"}
"""Views of `separable explore` and the elements of the page that open them."""


@dataclass(frozen=True)
class Figure:
    """One figure, the function that computes it, and the places that show it.

    Attributes
    ----------
    group, what : str
    expected : str
        The right figure, as text.
    compute : callable
        Returns the same text from the library.
    command : str
        Command that prints it; empty if none does.
    prints : tuple of str
        Parts of what the command prints, with single spaces.
    view : str
        View of the interactive page; empty if none shows it.
    lesson : int
        Number of the lesson that shows it; 0 if none does.
    says : str
        Part of what the lesson prints or says, with single spaces.
    """

    group: str
    what: str
    expected: str
    compute: Callable[[], str]
    command: str = ""
    prints: tuple[str, ...] = ()
    view: str = ""
    lesson: int = 0
    says: str = ""


# The figures

KERNELS, OUTPUTS, LAYERS = "Kernels", "Multiplications per output", "Layers"
EXACT, NETWORKS, OTHERS = "When a dense layer is separable", "Published networks", "Other crossings"
SLIPS = "Slips in introductions"
SINGLE = "separable cost conv --in 15x15x1 --kernel 3x3 --filters 1"


def _kernel_rows() -> Iterator[Figure]:
    k = sep.kernels
    yield Figure(
        KERNELS, "`3 6 9; 4 8 12; 5 10 15`", "[3 4 5] (column) x [1 2 3] (row), integers",
        lambda: value.vectors(value.TEXTBOOK), 'separable kernel "3 6 9; 4 8 12; 5 10 15"',
        ("Separable: the product of one vector per axis.", "y 3 4 5", "x 1 2 3"),
        "Kernel", 1, "y 3 4 5",
    )  # fmt: skip
    yield Figure(
        KERNELS, "Sobel", "[1 2 1] (column) x [-1 0 1] (row), integers", lambda: value.vectors(value.SOBEL),
        "separable kernel sobel", ("y 1 2 1", "x -1 0 1"), "Kernel", 1, "x -1 0 1",
    )  # fmt: skip
    yield Figure(
        KERNELS, "Gaussian, box and binomial in 1 to 3 dimensions", "rank 1 / 1 / 1 / 1",
        lambda: "rank " + value.ranks(
            k.gaussian(2), k.gaussian(2, ndim=3), k.box((5, 7)), k.binomial(4, ndim=3)
        ),
        "separable kernel gaussian:2 --ndim 3", ("Separable: the product of one vector per axis.",),
        "Kernel", 1, "rank 1, exact",
    )  # fmt: skip
    yield Figure(
        KERNELS, "Laplacian of Gaussian; Gabor at 30 and 45 degrees", "rank 2 / 2 / 2",
        lambda: "rank " + value.ranks(
            k.laplacian_of_gaussian(3), k.gabor(8, np.pi / 6), k.gabor(8, np.pi / 4)
        ),
        "separable kernel log:3", ("Not separable: the sum of 2 separable terms (rank 2).",),
        "Kernel", 2, "Gabor, 30 degrees 37x37 2 2 2",
    )  # fmt: skip
    disks = [k.disk(radius) for radius in (5, 10, 20, 40)]
    yield Figure(
        KERNELS, "disk of radius 5 / 10 / 20 / 40", "rank 4 / 7 / 13 / 25",
        lambda: "rank " + value.ranks(*disks), "separable kernel disk:10", ("(rank 7)",),
        "Kernel", 2, "disk of radius 10 21x21 7 7 7",
    )  # fmt: skip
    yield Figure(
        KERNELS, "the same, terms for an error of 1 %", "4 / 7 / 13 / 25",
        lambda: value.ranks(*disks, tol=0.01), "separable kernel disk:10 --tol 0.01", ("(rank 7)",),
        "Kernel", 2, "disk of radius 40 81x81 25 25 25",
    )  # fmt: skip
    yield Figure(
        KERNELS, "Gaussian with sigmas 6 and 2 at 45 degrees, terms for 1 % and 0.1 %", "7 / 10",
        lambda: f"{value.ranks(value.turned(), tol=0.01)} / {value.ranks(value.turned(), tol=0.001)}",
        lesson=2, says="at 45 degrees 49x49 41 7 10",
    )  # fmt: skip
    yield Figure(
        KERNELS, "most kernels are not separable: the Laplacian", "rank 2, best product 10 % off",
        value.best_product,
        'separable kernel "0 1 0; 1 -4 1; 0 1 0" --rank 1',
        ("Not separable", "with an error of 0.1 of the kernel", "Singular values"), "Kernel", 1,
        "rank 2, not separable",
    )  # fmt: skip


def _count_rows() -> Iterator[Figure]:
    words = "Multiplications per output: {} dense, {} in {} passes: {} times fewer."
    for size, ndim, figure, lesson, says in (
        (3, 2, "9 / 6 = 1.5", 1, "3 x 3 9 -> 6 1.5 times fewer"),
        (7, 2, "49 / 14 = 3.5", 1, "7 x 7 49 -> 14 3.5 times fewer"),
        (7, 3, "343 / 21 = 16.3", 3, "343 21 16.3"),
        (10, 3, "1000 / 30 = 33.3", 3, "1,000 30 33.3"),
    ):
        dense, few, ratio = figure.replace(" = ", " / ").split(" / ")
        law = "K/2" if ndim == 2 else "K²/3"
        yield Figure(
            OUTPUTS, f"kernel {'x'.join([str(size)] * ndim)}, {law}", figure,
            lambda size=size, ndim=ndim: value.filter_count(size, ndim),
            f"separable kernel box:{size} --ndim {ndim}", (words.format(dense, few, ndim, ratio),),
            "Kernel", lesson, says,
        )  # fmt: skip
    yield Figure(
        OUTPUTS, "dense layer 3x3, C_in = 64, C_out = 128", "73,728 / (576 + 8,192 = 8,768) = 8.41",
        lambda: value.layer((3, 3, 64), 3, 128),
        "separable cost conv --in 3x3x64 --kernel 3x3 --filters 128",
        ("73,728", "8,768", "8.41 times fewer"), "Layers", 7, "128 8.41",
    )  # fmt: skip


def _layer_rows() -> Iterator[Figure]:
    conv = "separable cost conv --in {} --kernel {} --filters {} --depth 2"
    yield Figure(
        LAYERS, "12x12x3, 5x5, C_out = 256", "1,228,800 / (4,800 + 49,152 = 53,952) = 22.8",
        lambda: value.layer((12, 12, 3), 5, 256), conv.format("12x12x3", "5x5", 256),
        ("8x8x256", "1,228,800", "depthwise 4,800", "pointwise 49,152", "53,952", "22.8 times"),
        "Layers", 6, "4,800 + 49,152 = 53,952",
    )  # fmt: skip
    yield Figure(
        LAYERS, "15x15x3, 3x3, C_out = 10", "45,630 / (4,563 + 5,070 = 9,633) = 4.74",
        lambda: value.layer((15, 15, 3), 3, 10), conv.format("15x15x3", "3x3", 10),
        ("13x13x10", "45,630", "depthwise 4,563", "pointwise 5,070", "9,633", "4.74 times"),
        "Layers", 6, "4,563 + 5,070 = 9,633",
    )  # fmt: skip
    yield Figure(
        LAYERS, "15x15x1, 3x3 as 3x1 and then 1x3, one filter",
        "1,521 / (585 + 507 = 1,092) = 1.39", value.strips, SINGLE,
        ("1,521", "1,092", "585 + 507", "1.39 times fewer"), "", 6, "585 + 507 = 1,092",
    )  # fmt: skip
    yield Figure(
        LAYERS, "12x12x3, 5x5, M = 2: depthwise output", "8x8x6", value.multiplied,
        "separable cost separable --in 12x12x3 --kernel 5x5 --filters 256 --multiplier 2",
        ("depthwise 9,600",), "Layers", 6, "depthwise output: (1, 6, 8, 8)",
    )  # fmt: skip
    large = "separable cost separable --in 32x32x3 --kernel 32x32 --filters 3"
    yield Figure(
        LAYERS, "separable over dense, C_out = 3, K = 32", "0.33431", lambda: value.share(3, 32), large,
        ("2.99 times fewer",), "Layers", 7, "K = 32: 0.3343099",
    )  # fmt: skip
    yield Figure(
        LAYERS, "the same, K = 1024: never below 1/3", "0.33333", lambda: value.share(3, 1024),
        large.replace("32x32", "1024x1024"), ("3.00 times fewer",), "Layers", 7, "0.3333343",
    )  # fmt: skip
    yield Figure(
        LAYERS, "the same, K = 32, 64 .. 1024: the curve", "0.33431 0.33358 0.33339 0.33335 0.33334 0.33333",
        lambda: value.curve(3), lesson=7, says="K = 64: 0.3335775",
    )  # fmt: skip
    yield Figure(
        LAYERS, "dense over separable, 3x3, C_out = 64 .. 1024", "7.9 to 8.9", lambda: value.times(3),
        "separable cost conv --in 3x3x64 --kernel 3x3 --filters 1024", ("8.92 times fewer",),
        "Layers", 7, "1024 8.92",
    )  # fmt: skip


def _slip_rows() -> Iterator[Figure]:
    yield Figure(
        SLIPS, "dense over separable, K = 5, C_in = 3, C_out = 256, and two lines with slips",
        "22.78, not 0.267 or 0.0439", value.derivation, lesson=6, says="M for N 0.267",
    )  # fmt: skip
    yield Figure(
        SLIPS, "3x1 and then 1x3 on 15x15: the second pass runs on 13x15", "1,092, not 1,170",
        value.second_strip, SINGLE, ("1,521", "1,092", "585 + 507", "1.39 times fewer"), "", 6,
        "1,170 counts the second strip",
    )  # fmt: skip
    yield Figure(
        SLIPS, "positions of a 3x3 kernel on 15x15", "169, not 225", value.positions, lesson=6,
        says="13 x 13 is 169",
    )  # fmt: skip
    yield Figure(
        SLIPS, "output of 5x5, C_out = 256, on 12x12x3", "8x8x256, not 12x12x256", value.output_shape,
        "separable cost conv --in 12x12x3 --kernel 5x5 --filters 256 --depth 2",
        ("8x8x256", "1,228,800", "depthwise 4,800", "pointwise 49,152", "53,952", "22.8 times"),
        "Layers", 6, "the output is 8 x 8 x 256, not 12 x 12 x 256",
    )  # fmt: skip
    yield Figure(
        SLIPS, "a dense and a separable layer with arbitrary weights", "the same shape, not the same values",
        value.same_shape, lesson=6, says="shapes: (1, 256, 8, 8) (1, 256, 8, 8)",
    )  # fmt: skip
    yield Figure(
        SLIPS, "4,800 + 49,152", "53,952, not 52,952",
        lambda: f"{sep.cost.separable((12, 12, 3), (5, 5), 256).multiplications:,}, not 52,952", lesson=6, says="the sum is 53,952, where 52,952",
    )  # fmt: skip


def _exact_rows() -> Iterator[Figure]:
    for size, ndim, figure, printed in (
        (3, 2, "8.7", "8.69"), (5, 2, "22.8", "22.8"), (3, 3, "24.4", "24.4"),
    ):  # fmt: skip
        kernel = "x".join([str(size)] * ndim)
        yield Figure(
            EXACT, f"break-even multiplier, {kernel}, C_out = 256", figure,
            lambda size=size, ndim=ndim: value.even(size, ndim),
            f"separable cost conv --in {kernel}x1 --kernel {kernel} --filters 256",
            (f"{printed} times fewer",), "Layers", 8, figure,
        )  # fmt: skip
    for size, ndim, multiplier, figure, printed in (
        (3, 2, 9, "1 / 1.035", "1.04 times more"),
        (3, 2, 4, "2.2", "2.17 times fewer"),
        (3, 3, 4, "6.1", "6.11 times fewer"),
    ):
        kernel = "x".join([str(size)] * ndim)
        says = "1.035 of dense" if multiplier == 9 else f"{figure} times"
        yield Figure(
            EXACT, f"dense over separable, {kernel}, C_out = 256, M = {multiplier}", figure,
            lambda size=size, ndim=ndim, m=multiplier: value.fewer(size, ndim, m),
            f"separable cost separable --in {kernel}x1 --kernel {kernel} --filters 256 "
            f"--multiplier {multiplier}",
            (printed,), "Layers", 8, says,
        )  # fmt: skip
    yield Figure(
        EXACT, "error of the best layer, from the singular values beyond M, for the two detectors below",
        "0.577 with M = 1, 0.000 with M = 2", value.best_layer, lesson=8, says="1 0.577",
    )  # fmt: skip
    yield Figure(
        EXACT, "red vertical crossing blue horizontal, and exchanged", "M = 1 for one, M = 2 for both",
        value.detectors, lesson=8, says="one detector: rank 1",
    )  # fmt: skip


PUBLISHED = (
    ("mobilenet_v1", {}, "4.23 M, 569 M", "4.2 M, 569 M"),
    ("mobilenet_v1", {"dense": True}, "29.3 M, 4.87 G", "29.3 M, 4866 M"),
    ("mobilenet_v1", {"width": 0.75}, "2.59 M, 325 M", "2.6 M, 325 M"),
    ("mobilenet_v1", {"width": 0.5}, "1.33 M, 149 M", "1.3 M, 149 M"),
    ("mobilenet_v1", {"width": 0.25}, "470 k, 41.0 M", "0.5 M, 41 M"),
    ("mobilenet_v1", {"resolution": 192}, "4.23 M, 418 M", "4.2 M, 418 M"),
    ("mobilenet_v1", {"resolution": 160}, "4.23 M, 291 M", "4.2 M, 290 M"),
    ("mobilenet_v1", {"resolution": 128}, "4.23 M, 186 M", "4.2 M, 186 M"),
    ("xception", {}, "22.9 M, 8.36 G", "22.9 M, 8.4 G"),
    ("efficientnet_b0", {}, "5.29 M, 386 M", "5.3 M, 0.39 G"),
    ("efficientnet_b1", {}, "7.79 M, 687 M", "7.8 M, 0.70 G"),
    ("efficientnet_b7", {}, "66.3 M, 37.7 G", "66 M, 37 G"),
)
"""Networks: name, options, our counts of parameters and multiply-adds, and those of the papers."""


IN_LESSONS = {
    "mobilenet_v1": (7, "MobileNet: 569 million multiply-adds, 4.23 million parameters"),
    "efficientnet_b0": (14, "B0 386 M 5.29 M"),
    "efficientnet_b1": (14, "B1 240 7.79 M"),
    "efficientnet_b7": (14, "B7 600 66.35 M"),
}
"""Networks that lessons show at their published size: the lesson and what it prints."""


def _network_rows() -> Iterator[Figure]:
    for name, options, ours, published in PUBLISHED:
        flags = " ".join("--dense" if v is True else f"--{o} {v}" for o, v in options.items())
        words = ", ".join("dense" if v is True else f"{o} {v}" for o, v in options.items())
        yield Figure(
            NETWORKS, f"{name}{', ' if words else ''}{words}: parameters, multiply-adds ({published} published)",
            ours, lambda name=name, options=options: value.network(name, **options),
            f"separable cost {name} {flags}".strip(), tuple(ours.split(", ")), "Layers",
            *(IN_LESSONS.get(name, (0, "")) if not options else (0, "")),
        )  # fmt: skip
    yield Figure(
        NETWORKS, "mobilenet_v1, first separable layer: depthwise + pointwise multiply-adds",
        "3.61 M + 25.7 M", value.first_layer, "separable cost mobilenet_v1 --depth 4",
        ("stages.0.0.depthwise 3.61 M", "stages.0.0.pointwise 25.7 M"), "Layers",
    )  # fmt: skip
    yield Figure(
        NETWORKS, "compound scaling, 1.2 x 1.1² x 1.15², close to 2", "1.920",
        lambda: f"{1.2 * 1.1**2 * 1.15**2:.3f}", lesson=14, says="= 1.920",
    )  # fmt: skip


def _other_rows() -> Iterator[Figure]:
    yield Figure(
        OTHERS, "attention and a separable layer, k = 7", "N = 49", lambda: value.crossing(7),
        "separable cost attention --in 7x7x64 --kernel 7x7", ("where N = K^2 = 49.",), "", 13,
        "7 x 7 49 50 places",
    )  # fmt: skip
    yield Figure(
        OTHERS, "the same along one axis, k = 9", "N = 9", lambda: "N = 9" if value.line(9) else "",
        "separable cost attention --in 9x64 --kernel 9", ("where N = K = 9.",),
    )  # fmt: skip
    yield Figure(
        OTHERS, "a depthwise layer of 128 channels: multiplications, bytes, dense over depthwise",
        "128 times, 1.2 times", value.traffic,
        "separable cost conv --in 56x56x128 --kernel 3x3 --filters 128 --padding same --groups 128",
        ("mult/byte",), "Layers", 7, "128 times the multiplications, 1.2 times the bytes",
    )  # fmt: skip
    yield Figure(
        OTHERS, "kernels of rank 31, growing: passes, then FFT (of a reference computer)", "passes first, FFT later",
        value.fft, "separable plan --sweep --kernel disk:50 --shape 1024x1024", ("The FFT is predicted to be faster than passes",), "Kernel", 5,
        "FFT before all others",
    )  # fmt: skip


GROUPS = (
    _kernel_rows,
    _count_rows,
    _layer_rows,
    _slip_rows,
    _exact_rows,
    _network_rows,
    _other_rows,
)
FIGURES = tuple(figure for group in GROUPS for figure in group())


def rows() -> Iterator[str]:
    """Yield the lines of the table, with the figures computed anew."""
    group = ""
    for figure in FIGURES:
        if figure.group != group:
            group = figure.group
            yield from ("", f"## {group}", "", "| figure | value | command | page | lesson |")
            yield "| --- | --- | --- | --- | --- |"
        command = f"`{figure.command}`" if figure.command else "-"
        lesson = str(figure.lesson or "-")
        yield f"| {figure.what} | {figure.compute()} | {command} | {figure.view or '-'} | {lesson} |"


def written(page: str) -> str:
    """Return the text of the page with its tables made anew."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n" + "\n".join(rows()) + f"\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
