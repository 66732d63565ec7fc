"""The lessons: each runs in its short form without a warning, and prints the figures it is about.

A few lessons share a process, as all of them do where the documentation is built: importing PyTorch
takes longer than most of them.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "lessons"
LESSONS = {int(path.name[7:9]): path for path in sorted(FOLDER.glob("lesson_*.py"))}

# The lessons that run in one process.
GROUPS = ((1, 2, 3, 4, 5, 15, 16), (6, 7, 8, 9, 10), (11, 12, 13, 14), (17, 18))

RUNNER = """
import contextlib, io, json, os, runpy, sys, traceback
from matplotlib import pyplot

answer, *paths = sys.argv[1:]
found = {}
for path in paths:
    sys.argv = [path, "--short"]
    text, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(text):
            runpy.run_path(path, run_name="__main__")
    except BaseException:
        error = traceback.format_exc()
    found[path] = {"text": text.getvalue(), "error": error, "figures": len(pyplot.get_fignums()),
                   "left": os.listdir()}
    pyplot.close("all")
    with open(answer, "w") as file:
        json.dump(found, file)
"""

PACKAGES = ("matplotlib", "torch", "skimage", "nibabel", "sklearn")
FILTERING = {1: ("skimage",), 2: ("skimage",), 3: ("nibabel",), 16: ("skimage",)}
NETWORKS = {
    8: ("torch",),
    9: ("torch", "sklearn"),
    10: ("torch", "sklearn"),
    12: ("torch", "sklearn"),
}


def needed(lesson: int) -> tuple[str, ...]:
    """The packages that a lesson imports, beside NumPy and SciPy."""
    own = (
        NETWORKS.get(lesson, ("torch",))
        if 6 <= lesson <= 14 or lesson >= 17
        else FILTERING.get(lesson, ())
    )
    return ("matplotlib", *own)


def missing(lesson: int) -> list[str]:
    layers = ("torch",) if "sep.nn" in LESSONS[lesson].read_text(encoding="utf-8") else ()
    return [n for n in (*needed(lesson), *layers) if importlib.util.find_spec(n) is None]


@functools.cache
def ran(group: tuple[int, ...], folder: Path) -> dict[int, dict]:
    """Run the lessons of a group that can; what each printed, drew, left behind and failed with."""
    paths = {str(LESSONS[n]): n for n in group if n in LESSONS and not missing(n)}
    work, scratch, answer = folder / "work", folder / "scratch", folder / "answer.json"
    for path in (work, scratch):
        path.mkdir()
    environment = {
        **os.environ, "MPLBACKEND": "agg", "TMPDIR": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),  # made by importing torch.optim
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", RUNNER, str(answer), *paths],
            cwd=work, env=environment, capture_output=True, text=True, timeout=1000, check=False,
        )  # fmt: skip
        error = done.stderr or f"ended with {done.returncode}"
    except subprocess.TimeoutExpired as late:
        error = str(late)
    found = json.loads(answer.read_text()) if answer.exists() else {}
    left = {"left": [], "text": "", "error": error, "figures": 0}
    scratched = {"scratch": sorted(path.name for path in scratch.iterdir())}
    return {number: found.get(path, left) | scratched for path, number in paths.items()}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict]:
    """A function that says what happened when a lesson ran, or skips."""
    folders = {group: tmp_path_factory.mktemp("lessons") for group in GROUPS}

    def look(number: int) -> dict:
        if absent := missing(number):
            pytest.skip(f"lesson {number} needs {', '.join(absent)}")
        group = next(group for group in GROUPS if number in group)
        return ran(group, folders[group])[number]

    return look


def test_there_are_eighteen_lessons_numbered_in_order():
    assert list(LESSONS) == list(range(1, 19))
    assert sorted(sum(GROUPS, ())) == list(LESSONS)
    for number, path in LESSONS.items():
        title, line = path.read_text(encoding="utf-8").splitlines()[1:3]
        assert title.startswith(f"{number}. ")
        assert line == "=" * len(title)


@pytest.mark.parametrize("number", LESSONS)
def test_needs_what_it_imports(number):
    text = LESSONS[number].read_text(encoding="utf-8")
    found = {name for name in PACKAGES if re.search(rf"^(from|import) {name}\b", text, re.M)}
    assert found == set(needed(number))


# What the short form prints as the full one does: counted or computed exactly, never measured.
# One space stands for any number of them.
FACTS = {
    1: [
        "y 3 4 5", "x 1 2 3", "y 1 2 1", "x -1 0 1", "3 x 3 9 -> 6 1.5 times fewer",
        "7 x 7 49 -> 14 3.5 times fewer", "largest difference: 0", "rank 2, not separable",
    ],
    2: [
        "disk of radius 5 11x11 4 4 4", "disk of radius 10 21x21 7 7 7",
        "disk of radius 20 41x41 13 13 13", "disk of radius 40 81x81 25 25 25",
        "Laplacian of Gaussian, sigma 3 25x25 2 2 2", "Gabor, 30 degrees 37x37 2 2 2",
        "Gaussian, sigmas 6 and 2, at 45 degrees 49x49 41 7 10",
    ],
    3: ["7 49 14 3.5 343 21 16.3 16.3", "10 100 20 5.0 1,000 30 33.3 33.3", "343 -> 21, 16.3 times"],
    4: ["l,yx : 1 term", "dense 637, in two 62: 10.3 times fewer"],
    5: ["by the clock: sigma", "FFT before all others, predicted: radius"],
    6: [
        "dense 1,228,800", "4,800 + 49,152 = 53,952", "ratio 22.8", "45,630 dense; 4,563 + 5,070 = 9,633",
        "M for N 0.267", "separable over dense 0.0439", "kernel 1024 x 1024: 0.3333",
        "4.74 times fewer", "585 + 507 = 1,092", "1.39 times fewer", "13 x 13 is 169",
        "the output is 8 x 8 x 256", "depthwise output: (1, 6, 8, 8)", "25 1,348,800 0.91 21,075 exact",
        "for there is a ReLU between its steps", "fused into one module: depthwise, pointwise",
    ],
    7: [
        "K = 32: 0.3343099", "K = 1024: 0.3333343", "64 7.89", "1024 8.92",
        "1 / C_out = 0.3333333", "128 filters, 3 x 3: 8.41 times", "56 x 56 3.9 6.6 0.59",
        "dense over depthwise: 128 times the multiplications, 1.2 times the bytes", "fused layers: 14, the first two: convolution, norm, relu",
    ],
    8: [
        "wrong at 0 of 102,400 places", "0]] rank 2", "one detector: rank 1", "as YX,yx: rank 1, 18 numbers",
        "3 x 3, 256 filters 8.7 9 1.035 of dense 2.2 times", "5 x 5, 256 filters 22.8",
        "3 x 3 x 3, 256 filters 24.4 27 1.105 of dense 6.1 times", "2 0.000 1.000 0",
    ],
    9: ["dense 612,028 multiplications 24,170", "separable 101,564 multiplications 4,122", "6.0 times fewer"],
    10: ["16 output channels: 5.8 terms", "256 output channels: 8.7 terms", "3 of 4 convolutions converted"],
    11: ["26,793 parameters", "24,945 parameters", "4.3 times as many", "skips, in the dense network:"],
    12: ["686,296 multiplications", "182,488 multiplications", "4.32 times", "25.5 times"],
    13: [
        "3 x 3 9 10 places", "7 x 7 49 50 places", "the ledger 12,582,912 multiply-adds, the formula 12,582,912",
        "depends on 49 of 256", "convolution 1,571,328 11,201 25", "depends on 256 of 256", "56 x 56 5857 212.7 27.5",
    ],
    14: ["B0 386 M 5.29 M", "2 x resolution 3.99 x 1.00 x", "= 1.920", "B1 240 7.79 M 7.8 M"],
    15: [
        "`memory` must be at least", "80 x 80 x 80", "the pass along z: for 64 x 64 x 64 it needs 80 x 64 x 64",
        "ended with -9; in the folder: foam.npy, smooth.npy.partial,", "slabs are there already",
        "ended with 0; in the folder: foam.npy, smooth.npy",
    ],
    16: [
        "slices 2.0 mm apart, pixels of 0.5 mm", "Multiplications: 16 per output", "Multiplications: 930 per sample",
        "smoothed first contrast that is left of the finest rings: 0.021", "`sigma` must be at least 0.6 samples",
        "resampling 256 16 16x", "vesselness 118,452 930 127x",
    ],
    17: ["image, audio, text", "without audio", "100.0%", "multiply-adds"],
    18: ["a multiply-add in float32 4.60 pJ", "memory: at most 34.1 GB/s", "mobilenet_v1, dense", "meter of this processor:"],
}  # fmt: skip


@pytest.mark.docs
@pytest.mark.parametrize("number", LESSONS)
def test_runs_without_warnings_and_says_what_it_should(lesson, number):
    found = lesson(number)
    assert not found["error"], found["error"]
    assert found["figures"] >= 1
    printed = re.sub(r"\s+", " ", found["text"])
    absent = [fact for fact in FACTS[number] if fact not in printed]
    assert not absent, f"not printed: {absent}\n{found['text']}"


@pytest.mark.docs
@pytest.mark.parametrize("number", LESSONS)
def test_leaves_nothing_behind(lesson, number):
    found = lesson(number)
    assert found["left"] == []
    assert found["scratch"] == []


def numbers(pattern: str, text: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


@pytest.mark.docs
def test_errors_stay_within_their_bounds(lesson):
    rows = re.findall(r"^ +([1-7]) +\S+ +([\d.]+) +([\d.]+) +([\d.]+)$", lesson(2)["text"], re.M)
    assert [int(row[0]) for row in rows] == list(range(1, 8))
    assert all(float(typical) <= float(most) <= float(bound) for _, bound, most, typical in rows)


@pytest.mark.docs
def test_one_multiplier_too_few_is_a_worse_detector(lesson):
    text = lesson(8)["text"]
    (one,) = numbers(r"\n +1 +0\.577 +([\d.]+)", text)
    assert one < 0.9
    assert "precision 1.000" in text  # of the single detector


@pytest.mark.docs
def test_attention_does_not_use_positions(lesson):
    gaps = dict(
        re.findall(r"^(.+?) +largest difference, relative: (\S+)$", lesson(13)["text"], re.M)
    )
    assert float(gaps["one attention"]) < 1e-5
    assert float(gaps["three separable 3 x 3"]) > 1e-2


@pytest.mark.docs
def test_slabs_are_bit_identical_to_the_whole(lesson):
    text = lesson(15)["text"]
    assert text.count("the same to the last bit: True") == 2
    assert numbers(r"largest difference: (\d+) of", text)[0] > 0  # without a halo


@pytest.mark.docs
def test_lessons_say_the_worked_figures(lesson):
    """Lessons print the figures that `docs/figures.md` says they show."""
    spec = importlib.util.spec_from_file_location(
        "worked_figures", FOLDER.parent / "worked_figures.py"
    )
    page = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = page
    spec.loader.exec_module(page)
    absent = []
    for figure in page.FIGURES:
        if figure.says:
            printed = re.sub(r"\s+", " ", lesson(figure.lesson)["text"])
            absent += [figure.says] if figure.says not in printed else []
    assert not absent
