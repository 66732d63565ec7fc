"""The page without a server: one HTML file that computes in the browser."""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError
from separable.explore.curve_answers import LONGEST_SWEEP, SHAPES
from separable.explore.picture_answers import as_png, sample
from separable.explore.questions import EXAMPLES
from separable.factorize import spectrum
from separable.factors import Factors
from separable.files.atomic_write import whole_or_nothing
from separable.files.diagnostics import reason_of, remedy_of
from separable.kernels import parse
from separable.machine import shipped_profiles
from separable.pages.script_bundle import bundle
from separable.pages.standalone_html import asset, page_in_one_file
from separable.plan import sweep_sizes
from separable.plan.size_sweep import SIZES

__all__ = ["SITE_BYTES", "static_page", "write_static"]

SITE_BYTES = 400 * 1000  # largest page: it must open quickly from any host
MORE = {
    "binomial:5": "Binomial, 5 x 5",
    "laplace": "Laplacian, 3 x 3",
    "prewitt": "Prewitt",
    "scharr": "Scharr",
}
PHOTOGRAPH, RINGS = 256, 192  # pixels of a side
TITLE = "separable: is this kernel a column times a row?"
REPLACED = {"api.js": "browser_api.js"}  # scripts that ask a server, and those that compute instead


def static_page() -> str:
    """Return the page as HTML that needs no server, no network and no other file.

    Kernels, layers and their pictures are computed by its scripts; plans, volumes and networks need
    the program. Predicted times are those of the first shipped machine profile.
    """
    folder = files("separable.explore").joinpath("static")

    def read(name: str) -> str:
        own = folder.joinpath(name)
        return own.read_text("utf-8") if own.is_file() else asset(name)

    body = re.search(r"<body>\n(.*)</body>", read("index.html"), re.DOTALL)
    assert body is not None
    icon = base64.b64encode(asset("icon.svg").encode()).decode()
    shown = body[1].replace("static/icon.svg", f"data:image/svg+xml;base64,{icon}")
    return page_in_one_file(TITLE, shown, _data(), bundle(["app.js"], read, REPLACED))


def write_static(folder: Path, *, overwrite: bool = False) -> Path:
    """Write the page as ``index.html`` in a folder, for any static host or to open from disk.

    Parameters
    ----------
    folder : Path
        It is created if needed.
    overwrite : bool
        Whether an existing ``index.html`` is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FileError
        If the file exists or cannot be written.
    """
    target = folder / "index.html"
    if target.exists() and not overwrite:
        raise FileError(f"{target} exists. Choose another folder, or overwrite it (--force)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_or_nothing(target.resolve(), overwrite) as file:
            file.write(static_page().encode())
    except (OSError, RuntimeError) as error:
        raise FileError(f"cannot write {target}: {reason_of(error)}{remedy_of(error)}") from None
    return target


def _data() -> dict[str, Any]:
    """Return what the scripts cannot compute: kernels of the catalogue, pictures and predicted times."""
    examples = {**EXAMPLES, **MORE}
    kernels = {name: _dense(name) for name in examples}
    ranks = {(k.ndim, spectrum(k).rank) for k in kernels.values()} | {(n, 1) for n in SHAPES}
    photographs = {"rings": as_png(_smaller(sample("rings"), RINGS))}
    names = {"rings": "rings, computed"}
    try:
        photographs["camera"] = as_png(_smaller(sample("camera"), PHOTOGRAPH))
        names = {"camera": "photographer", **names}
    except ValueError:  # scikit-image, which has the photograph, is optional
        pass
    return {
        "examples": examples,
        "pictures": names,
        "photographs": photographs,
        "kernels": {name: _encoded(k) for name, k in kernels.items()},
        "sweeps": [_sweep(ndim, rank) for ndim, rank in sorted(ranks)],
    }


def _dense(name: str) -> NDArray[np.float64]:
    kernel = parse(name, 3 if name.startswith("ball") else None)
    return np.asarray(kernel.dense() if isinstance(kernel, Factors) else kernel, np.float64)


def _encoded(kernel: NDArray[np.float64]) -> dict[str, Any]:
    text = base64.b64encode(kernel.astype("<f8").tobytes()).decode()
    return {"shape": list(kernel.shape), "float64": text}


def _smaller(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a square picture with the means of squares of pixels."""
    step = picture.shape[0] // side
    mean = picture.reshape(side, step, side, step).mean(axis=(1, 3))
    return np.asarray(np.rint(mean), np.uint8)


def _sweep(ndim: int, rank: int) -> dict[str, Any]:
    """Return predictions with the rates of a shipped profile, to three digits."""
    sizes = [n for n in SIZES if n <= LONGEST_SWEEP]
    found = sweep_sizes(
        SHAPES[ndim], rank=rank, sizes=sizes, machine=shipped_profiles()[0], threads=2
    ).to_dict()
    for table in (found["seconds"], found["multiplications"]):
        for way, values in table.items():
            table[way] = [None if v is None else float(f"{v:.4g}") for v in values]
    return {**found, "ndim": ndim, "note": ""}
