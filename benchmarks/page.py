"""Write the page `docs/benchmarks.md` and the section on speed in the README.

    python benchmarks/filters.py               # first: measure the filters, and save the results
    python benchmarks/page.py filters          # writes their section and the README's from the saved results
    python benchmarks/page.py volumes bank     # runs these benchmarks and writes their sections
    python benchmarks/page.py --others         # the same for all except the filters
    python benchmarks/page.py fused            # writes the tables of docs/fused.md from the results of fused.py

Each section has the date, the machine and the versions of its measurement, because they may differ. Sections
that are not named stay as they are, and so does that of a benchmark that fails.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fused_tables
import ratio_tables
from filters import RESULTS, version_of

import separable as sep
from separable import get_num_threads
from separable.system import processor_name

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
README = HERE.parent / "README.md"
FUSED_PAGE = HERE.parent / "docs" / "fused.md"


@dataclass(frozen=True)
class Section:
    """Section of the page.

    Attributes
    ----------
    title, text : str
        Heading and introduction.
    runs : tuple of tuple of str
        Scripts with their arguments.
    packages : tuple of str
        Packages whose versions are listed.
    """

    title: str
    text: str
    runs: tuple[tuple[str, ...], ...]
    packages: tuple[str, ...]


SECTIONS = {
    "filters": Section(
        "Filters",
        "The same filters in other libraries, natively and limited to AVX2, which is what most laptops and desktops have. "
        "Each table has the medians of several runs, which are processes of their own; in each, "
        "all libraries take turns. The library is used as it is after installation, without `separable machine`.\n\n"
        "The peers are limited in the same way as far as they can be; the module `benchmarks/limits.py` says how. "
        "Intel's IPP is optional (`pip install ipp`).",
        (("filters.py",),),
        (),
    ),
    "regret": Section(
        "Choice of the method",
        "Every method that can run a kernel is measured; *regret* is the time of the chosen method "
        "divided by that of the fastest one. The rates are those of a new installation, without `separable machine`.",
        (("regret.py",), ("regret.py", "--avx2")),
        ("numpy", "scipy", "numba"),
    ),
    "planning": Section(
        "Planning",
        "What planning adds to a filter: on a new shape, for a small file, and in a call that is repeated.",
        (("planning.py",),),
        ("numpy", "numba"),
    ),
    "bank": Section(
        "Filter banks",
        "Several kernels on one volume: one call of a filter bank compared with one call per "
        "kernel (first *ratio*), and with another library (second *ratio*). *passes*: how many "
        "are run, of how many that the kernels need separately.",
        (("bank.py",),),
        ("numpy", "scipy", "PyWavelets"),
    ),
    "masks": Section(
        "Masks and missing values",
        "Time of a filter with a mask divided by the time without one (*ratio*), and normalised "
        "convolution in other libraries.",
        (("masks.py",),),
        ("numpy", "scipy", "astropy", "diplib"),
    ),
    "resampling": Section(
        "Resampling",
        "`zoom`, means of blocks and pyramids, compared with SciPy, PyTorch and OpenCV on the same images. "
        "*error*: largest difference between the two results.",
        (("resampling.py", "--rounds", "3"), ("resampling.py", "--rounds", "3", "--avx2")),
        ("numpy", "scipy", "torch", "opencv-python-headless"),
    ),
    "features": Section(
        "Features",
        "Second derivatives, Hessian eigenvalues, Frangi's filter and structure tensors of a volume, compared with SciPy and "
        "scikit-image. Times are minima; scikit-image is measured on an eighth of the volume, times eight, which favours it.",
        (("feature_times.py", "--rounds", "3"), ("feature_times.py", "--rounds", "3", "--avx2")),
        ("numpy", "scipy", "scikit-image"),
    ),
    "volumes": Section(
        "Volumes larger than memory",
        "Filtering from one chunked file to another within a memory limit, compared with copying "
        "the file, filtering in memory, and dask-image on the same chunks.",
        (("volumes.py",),),
        ("numpy", "zarr", "dask", "dask-image"),
    ),
    "layers": Section(
        "Layers",
        "Layers of `separable.nn` compared with the same convolutions written by hand (*plain*; "
        "*layer/plain* below 1 means that the layer is faster) and with the dense convolution "
        "(*dense/layer* above 1 means that the layer is faster). *mult.* is the number of "
        "multiplications of the dense convolution divided by that of the layer.",
        (("layers.py",), ("layers.py", "--backward")),
        ("torch",),
    ),
}  # fmt: skip

INTRODUCTION = """# Benchmarks

Written by `make bench` and `make bench-others`, without manual changes. All libraries of a table take turns in one run, round after
round, so that a machine that slows down slows all of them; times are medians. Compare only within a table, and ignore differences below
a tenth.
"""

IN_README = {
    "gaussian float32": "Gaussian, sigma 2, 4096x4096 float32",
    "gaussian uint8": "the same, uint8",
    "gaussian uint16": "the same, uint16",
    "sobel": "Sobel, 4096x4096 float32",
    "first axis": "Gaussian along the first axis only",
    "sigma 30": "Gaussian, sigma 30",
    "volume": "Gaussian, sigma 2, 256x512x512 float32",
    "dense separable": "31x31 array that happens to be separable",
    "dense disk": "disk of radius 15",
    "small gaussian 256": "Gaussian, sigma 1, 256x256 float32",
    "small gaussian 64": "Gaussian, sigma 1, 64x64 float32",
}
"""Rows of the README's table, by key."""


README_INTRODUCTION = """### Speed

Time of other libraries divided by ours, from [the benchmarks](docs/benchmarks.md). Most laptops and desktops have AVX2.
"""


def filters_section(found: dict[str, Any]) -> str:
    """Return the section of the filters, from saved results."""
    section = SECTIONS["filters"]
    command = "python benchmarks/filters.py"
    parts = [
        f"## {section.title}",
        section.text,
        f"```text\n$ {command}\n{ratio_tables.text(found)}\n```",
    ]
    return "\n\n".join(parts)


def readme_section(found: dict[str, Any]) -> str:
    """Return the README's section on speed: the fastest other library's time divided by ours."""
    columns = {
        w: {line.key: line for line in ratio_tables.lines(p["runs"])}
        for w, p in found["widths"].items()
    }
    titles = [_column_title(found, width) for width in columns]
    text = [
        f"| {found['where']['processor']}, {found['where']['threads']} threads | over | {' | '.join(titles)} |"
    ]
    text.append("| --- | --- |" + " ---: |" * len(columns))
    for key, name in IN_README.items():
        listed = [column[key] for column in columns.values()]
        over = " or ".join(dict.fromkeys(line.over for line in listed))
        ratios = " | ".join(_short(line.ratio) for line in listed)
        text.append(f"| {name} | {over} | {ratios} |")
    return f"{README_INTRODUCTION}\n" + "\n".join(
        text + [f"\n*{warning}*" for warning in ratio_tables.busy(found["where"])]
    )


def _column_title(found: dict[str, Any], width: str) -> str:
    avx512 = found["widths"][width]["runs"][0]["avx512"]
    return "AVX-512" if avx512 else "AVX2"


def _short(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def section_text(name: str, section: Section) -> str:
    """Run a benchmark, show its output, and return its section of the page.

    Raises
    ------
    SystemExit
        If it fails.
    """
    parts = [f"## {section.title}", section.text, where(section.packages)]
    for script, *arguments in section.runs:
        command = " ".join(("python", f"benchmarks/{script}", *arguments))
        print(f"\n$ {command}", flush=True)
        lines = []
        with subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "100"},
        ) as running:  # fmt: skip
            assert running.stdout is not None
            for line in running.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip())
        if running.returncode:
            raise SystemExit(f"{command} failed: the section `{name}` stays as it was")
        output = "\n".join(lines).strip("\n")
        parts.append(f"```text\n$ {command}\n{output}\n```")
    return "\n\n".join(parts)


def where(packages: tuple[str, ...]) -> str:
    """Return a line with the date, the machine and the versions."""
    versions = [f"separable {sep.__version__}", f"Python {platform.python_version()}"]
    versions += [f"{package} {version_of(package)}" for package in packages]
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    load = os.getloadavg()[0]
    return (
        f"*{today}, {processor_name()}, {os.cpu_count()} processors, {get_num_threads()} threads, load "
        f"{load:.1f} before it began. {', '.join(versions)}.*"
    )


def written(page: str, found: dict[str, str]) -> str:
    """Return the page with these sections replaced."""
    known = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", page, flags=re.DOTALL))
    known |= found
    parts = [f"<!-- {n} -->\n{known[n]}\n<!-- end -->" for n in SECTIONS if n in known]
    return "\n\n".join([INTRODUCTION.rstrip(), *parts]) + "\n"


def with_section(readme: str, section: str) -> str:
    """Return the README with another section on speed."""
    return _between(readme, "speed", section)


def fused_page(text: str, found: dict[str, Any]) -> str:
    """Return docs/fused.md with the tables of these results."""
    text = _between(text, "measurements", fused_tables.measurements(found))
    return _between(text, "missed", fused_tables.missed_table(found))


def _between(text: str, name: str, section: str) -> str:
    """Return a text with another section between its marks."""
    pattern = rf"(<!-- {name} -->\n)(?:.*?\n)??(<!-- end -->)"
    if not re.search(pattern, text, flags=re.DOTALL):
        raise SystemExit(f"there are no lines `<!-- {name} -->` and `<!-- end -->`")
    return re.sub(pattern, lambda m: f"{m[1]}{section}\n{m[2]}", text, flags=re.DOTALL)


def main() -> None:
    """Write the sections that were asked for, each as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="|".join(SECTIONS))
    parser.add_argument("--others", action="store_true", help="all except the filters")
    asked = parser.parse_args()
    others = [name for name in SECTIONS if name != "filters"]
    if asked.names == ["fused"]:
        page = fused_page(FUSED_PAGE.read_text(encoding="utf-8"), fused_tables.load())
        FUSED_PAGE.write_text(page, encoding="utf-8")
        return
    names = asked.names or (others if asked.others else ["filters"])
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(
            f"there is no benchmark {unknown[0]}; there are {', '.join(SECTIONS)}; fused alone"
        )
    for name in names:
        if name == "filters":
            found = json.loads(RESULTS.read_text(encoding="utf-8"))
            if found["quick"]:
                raise SystemExit(f"{RESULTS} has results of small images (--quick): measure again")
            section = filters_section(found)
            readme = with_section(README.read_text(encoding="utf-8"), readme_section(found))
            README.write_text(readme, encoding="utf-8")
        else:
            section = section_text(name, SECTIONS[name])
        before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        PAGE.write_text(written(before, {name: section}), encoding="utf-8")


if __name__ == "__main__":
    main()
