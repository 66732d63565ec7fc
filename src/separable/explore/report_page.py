"""Report on a kernel as one HTML file, with the content of `separable explore`."""

from __future__ import annotations

import html
from typing import Any

from numpy.typing import NDArray

from separable.explore.kernel_answers import Chosen, describe
from separable.explore.plan_answers import plan_rows
from separable.explore.uploads import check_kernel
from separable.pages import stand_alone

__all__ = ["kernel_report"]

USUAL = {1: (1_000_000,), 2: (1024, 1024), 3: (128, 256, 256)}

BODY = """<h1>{name}</h1>
<p class="lead">{size}. {verdict}</p>
<section class="card"><h2>Factors</h2>
<div class="told"><div class="strips" id="strips"></div><div class="words">
<label class="slider" hidden>Terms <input id="rank" type="range" min="1" max="1" value="1"><output id="rank-out" for="rank">1</output></label>
<p id="rank-text" aria-live="polite"></p>
<p id="cell-text" class="help" hidden></p></div></div></section>
<div class="columns even">
<section class="card"><h2>Spectrum</h2><div id="spectrum" class="chart"></div>
<p class="help">Bars: weight of each term, relative to the first (singular values). Line: error of the sum up to that term, relative to the kernel (Frobenius norm).</p></section>
<section class="card"><h2>Multiplications per output</h2><div id="counts" class="chart"></div><p id="count-text"></p></section>
</div>
<section class="card"><h2>Methods for {image}</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Plan"><table id="plan"></table></div>
<p class="help">Passes: 1-D convolutions along one axis. mult/output: multiplications per output. Moved: bytes read and written. Error: guaranteed bound, relative to sum|kernel| x max|image|. <span id="rates"></span></p></section>
<section class="card"><h2>Numbers</h2><pre class="scroll" tabindex="0">{numbers}</pre></section>"""


def kernel_report(
    name: str,
    kernel: NDArray[Any],
    *,
    operation: str = "correlate",
    shape: tuple[int, ...] | None = None,
    dtype: str = "float32",
) -> str:
    """Return an HTML page about a kernel that needs no other file.

    Parameters
    ----------
    name : str
        Name of the kernel for the title.
    kernel : ndarray
        Real, of one to three axes.
    operation : str
        "correlate" or "convolve".
    shape, dtype
        Shape and data type of the image to plan for; by default a usual size and float32.

    Raises
    ------
    InputError, SeparableError
        If the kernel is too large for a page or not finite, or the plan cannot be made.

    Examples
    --------
    >>> import separable as sep
    >>> page = kernel_report("disk", sep.kernels.disk(3))
    >>> page.startswith("<!doctype html>"), "https://" in page
    (True, False)
    """
    values = check_kernel(kernel)
    found = describe(Chosen(name, values, operation))
    sizes = shape or USUAL[values.ndim]
    planned = plan_rows(
        Chosen(name, values, operation), sizes, dtype, "reflect", None, measure=False
    )
    body = BODY.format(
        name=html.escape(name),
        size=" x ".join(map(str, values.shape)),
        verdict=html.escape(found["verdict"]),
        image=f"{' x '.join(map(str, sizes))} {dtype}",
        numbers=html.escape(_numbers(found)),
    )
    data = {"kernel": found, "plan": planned}
    return stand_alone(f"{name}: factors and methods", body, data, ("kernel_report.js",))


def _numbers(described: dict[str, Any]) -> str:
    """Return the factors as text with six digits."""
    if not described["terms"]:
        return "  ".join(f"{v:.6g}" for v in _flat(described["values"]))
    lines = []
    for number, term in enumerate(described["terms"], 1):
        lines.append(f"term {number}")
        for letter, strip in zip(described["letters"], term, strict=True):
            lines.append(f"  {letter}  " + "  ".join(f"{v:.6g}" for v in strip))
    if described["rank"] > len(described["terms"]):
        lines.append(f"... {described['rank'] - len(described['terms'])} more terms")
    return "\n".join(lines)


def _flat(values: Any) -> list[float]:
    return [values] if isinstance(values, (int, float)) else [w for v in values for w in _flat(v)]
