"""Compare the filters with those of other libraries, natively and limited to AVX2.

    python benchmarks/filters.py               # both tables, three runs of each; several minutes
    python benchmarks/filters.py --avx2        # only the table limited to AVX2 (or --native)
    python benchmarks/filters.py --runs 1 --rounds 3 --rows gaussian sobel    # a part
    python benchmarks/filters.py --quick       # small images, to test this program

Each run is a process of its own. In it all libraries take turns, round after round, and medians count; the tables
have the medians over the runs. The results are saved, and `page.py filters` writes the page from them
without measuring again. The library is used as it is after installation: without `separable machine`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import limits
import ratio_tables
from targets import TARGETS

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "filters.json"
PACKAGES = ("numpy", "scipy", "numba", "opencv-python-headless", "diplib", "SimpleITK", "ipp")
SMALLER = 8
"""Divisor of the sizes with `--quick`."""
SHORT_ROW = 0.01
"""Seconds of our call up to which a row is measured in three times as many rounds."""


def main() -> None:
    """Measure, print and save the tables."""
    chosen = _arguments()
    if chosen.child:
        json.dump(one_run(chosen), sys.stdout)
        return
    widths = [w for w in limits.WIDTHS if w in chosen.widths or not chosen.widths]
    if "native" in widths and not limits.has_avx512():
        widths = ["native"]  # which is the table of AVX2 then
    start = time.perf_counter()
    found = measure(widths, chosen)
    found["minutes"] = round((time.perf_counter() - start) / 60, 1)
    print("\n" + ratio_tables.text(found))
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"\nsaved in {chosen.output} after {found['minutes']} minutes")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for width, title in limits.WIDTHS.items():
        parser.add_argument(
            f"--{width}", dest="widths", action="append_const", const=width, help=f"only {title}"
        )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", nargs="+", default=[], help="only rows whose keys contain these")
    parser.add_argument("--quick", action="store_true", help="small images, to test this program")
    parser.add_argument("--output", type=Path, help=f"JSON file; {RESULTS.name} for a complete run")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.widths = chosen.widths or []
    if not (chosen.output or chosen.quick or chosen.rows or chosen.widths):
        chosen.output = RESULTS
    return chosen


def measure(widths: list[str], chosen: argparse.Namespace) -> dict[str, Any]:
    """Run every table `chosen.runs` times, in turn, and return all results."""
    found: dict[str, Any] = {"where": where(chosen.threads), "quick": chosen.quick}
    found["widths"] = {w: {"runs": []} for w in widths}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(chosen.runs):
            for width in widths:
                print(f"run {turn + 1} of {chosen.runs}, {limits.WIDTHS[width]}", flush=True)
                run = _child(["--child", width], width, folder, chosen)
                found["widths"][width]["runs"].append(run)
        for width in widths if not chosen.rows else []:
            found["widths"][width]["memory"] = _memory(width, folder, chosen.quick)
    return found


def _child(arguments: list[str], width: str, folder: str, chosen: argparse.Namespace) -> Any:
    """Run this program in a process limited to `width`, and return what it found."""
    passed = ["--rounds", str(chosen.rounds), "--threads", str(chosen.threads)]
    passed += ["--quick"] if chosen.quick else []
    passed += ["--rows", *chosen.rows] if chosen.rows else []
    command = [sys.executable, __file__, *arguments, *passed]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env=environment(width, folder)
    )
    return json.loads(done.stdout)


def environment(width: str, folder: str) -> dict[str, str]:
    """Return an environment in which nobody has measured this computer, but code may be compiled already."""
    from separable.engine.compiled.code_cache import root

    compiled = {"SEPARABLE_CACHE_DIR": str(root())} if root() else {}
    return {**os.environ, "XDG_CACHE_HOME": folder, **compiled, **limits.environment(width)}


def where(threads: int, packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
    """Return the date, the machine and the versions."""
    import separable as sep
    from separable.system import available_processors, processor_name

    versions = {"separable": sep.__version__, "Python": platform.python_version()}
    versions |= {package: version_of(package) for package in packages}
    return {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "processor": processor_name(),
        "processors": available_processors(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
    }


def version_of(package: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


# --- one run, in a process of its own ---------------------------------------------------------------


def one_run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure the rates of this machine and all rows, once."""
    import floors
    import rows as all_rows

    width = chosen.child
    limits.check(width, all_rows.cv2)
    all_rows.use_threads(chosen.threads)
    smaller = SMALLER if chosen.quick else 1
    sizes = [(1 << 20) * n // smaller**2 for n in (16, 64, 256)]
    rates = floors.measure(sizes, chosen.threads)
    listed = []
    for row in all_rows.rows(smaller):
        if any(part in row.key for part in chosen.rows) or not chosen.rows:
            listed.append(measured_row(row, rates, chosen.rounds))
            last = listed[-1]
            print(f"  {last['name']}: {last['seconds'] * 1e3:.3g} ms", file=sys.stderr, flush=True)
    return {
        "avx512": limits.has_avx512(), "limits": limits.in_force(all_rows.cv2),
        "rates": dataclasses.asdict(rates), "load": round(os.getloadavg()[0], 1), "rows": listed,
    }  # fmt: skip


def measured_row(row: Any, rates: Any, rounds: int) -> dict[str, Any]:
    """Measure one row and return it as JSON values."""
    import rows as all_rows
    from timing import interleaved

    import separable as sep

    result = row.ours()
    first = time.perf_counter()
    row.ours()
    if time.perf_counter() - first < SHORT_ROW:
        rounds *= 3
    seconds = interleaved({"ours": row.ours, **row.peers}, rounds)
    mine = seconds.pop("ours")
    plan = sep.plan(row.kernel, row.image.shape, row.image.dtype, axes=row.axes, **row.options)
    small = row.key.startswith("small")
    floor = None if small else rates.floor((row.image, result), row.passes)
    compared = TARGETS[row.key].over if row.key in TARGETS else tuple(row.peers)[:1]
    errors = {
        name: all_rows.error_of(row, row.peers[name](), border=False)
        for name in compared
        if name in row.peers
    }
    return {
        "key": row.key, "name": row.name, "seconds": mine, "peers": seconds,
        "floor": floor, "method": plan.chosen.title,
        "error": all_rows.error_of(row, result, border=True), "errors": errors,
    }  # fmt: skip


# --- memory ---------------------------------------------------------------------------------------

MEASURED = """
import numpy as np
import separable as sep
from separable import kernels, ndimage
def peak():  # of this program; getrusage would tell the parent's where that was larger
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
v = np.ones({shape}, np.{dtype}); out = {out}
{call}(np.ones((32,) * v.ndim, v.dtype), {arguments})  # loads what is compiled
before = peak()
{call}(v, {arguments}, output=out)
print(peak() - before)
"""


def _memory(width: str, folder: str, quick: bool) -> dict[str, float]:
    """Return the growth of the peak resident size beyond input and output, in MiB."""
    if not sys.platform.startswith("linux"):
        return {}
    planes, edge = (16, 64) if quick else (256, 512)
    own, same = "np.ones_like(v)", "v"
    cases = [
        ("ndimage.gaussian_filter", "2", "float32", (planes, edge, edge), own),
        ("ndimage.gaussian_filter", "2", "uint8", (planes, edge, edge), own),
        ("ndimage.gaussian_filter", "2", "uint8", (4 * planes, edge, edge), own),
        ("ndimage.gaussian_filter", "2", "float32", (planes, edge, edge), same),
        ("ndimage.uniform_filter", "21", "uint8", (4 * planes, edge, edge), own),
        (
            "sep.convolve",
            "kernels.gaussian(12, ndim=3), tol=1e-2",
            "uint16",
            (2 * planes, edge, edge),
            own,
        ),
        ("ndimage.gaussian_filter", "1", "float32", (planes // 4, 8, edge, edge // 2), own),
    ]
    found = {}
    for call, arguments, dtype, shape, out in cases:
        code = MEASURED.format(call=call, arguments=arguments, dtype=dtype, shape=shape, out=out)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                              env=environment(width, folder))  # fmt: skip
        place = ", in place" if out == same else ""
        name = f"{call}(image, {arguments}), {'x'.join(map(str, shape))} {dtype}{place}"
        found[name] = int(done.stdout) / 1024
    return found


if __name__ == "__main__":
    main()
