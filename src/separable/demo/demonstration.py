"""What the demonstration does and says.

Nothing is told about the kernels: they are given as dense arrays, as anyone has them.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from separable import kernels
from separable.demo.demo_pictures import Result, draw_photo, draw_volume
from separable.distribution import install_command
from separable.errors import FileError, SeparableError
from separable.factorize import factorize
from separable.factors import Factors
from separable.files import write_image
from separable.plan import plan
from separable.plan.candidates import filter_pattern
from separable.plan.plan_text import duration

__all__ = ["run_demo"]

Array: TypeAlias = NDArray[Any]

NEEDED = {"skimage": "scikit-image", "nibabel": "nibabel", "matplotlib": "matplotlib"}
PATIENCE = 0.6  # seconds for the repeats of one timing
REPEATS = 5
WIDTH = 80  # columns


def run_demo(folder: Path, *, step: int = 1) -> list[Result]:
    """Run the demonstration: print what is found and write two pictures.

    Parameters
    ----------
    folder : path
        Where ``demo.png`` and ``demo-volume.png`` are written; made if it is not there.
    step : int
        Takes every so manieth pixel of the images: more than 1 for a quick try.

    Returns
    -------
    list of Result

    Raises
    ------
    SeparableError
        If a package that only the demonstration needs is missing, or the pictures cannot be
        written; the message says what to do.
    """
    _check_packages()
    photo, volume = _photograph()[::step, ::step], _volume()[::step, ::step]
    _make_folder(folder)
    _say(
        "Each kernel below is given as a dense array. It is factored, every way to run it is "
        "planned, the cheapest one is run, and the result is compared with the dense "
        "convolution of SciPy (scipy.ndimage.convolve)."
    )
    _say(f"The photograph: an astronaut, {_described(photo)}, filtered along its first two axes.")
    flat = [_compare(title, kernel, photo) for title, kernel in _flat_kernels()]
    _say(f"The volume: magnetic resonance of a head, {_described(volume)}, along all three axes.")
    solid = [_compare(title, kernel, volume) for title, kernel in _solid_kernels()]
    _summarise([*flat, *solid])
    for name, picture in (
        ("demo.png", draw_photo(photo, flat)),
        ("demo-volume.png", draw_volume(volume, solid)),
    ):
        write_image(folder / name, picture, overwrite=True)
        print(f"Wrote {folder / name}.")
    return [*flat, *solid]


def _check_packages() -> None:
    """Name all the packages that are missing, not only the first."""
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise SeparableError(
            f"the demonstration needs {' and '.join(missing)}. "
            f"Install the extra: {install_command('demo')}"
        )


def _photograph() -> Array:
    """The portrait of an astronaut (NASA, public domain) that scikit-image ships."""
    from skimage import data as images

    data: Any = images
    return np.asarray(data.astronaut(), dtype=np.float32)


def _volume() -> Array:
    """The first of the two volumes in the example that nibabel ships, axes (z, y, x)."""
    import nibabel

    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    if not path.is_file():
        raise FileError(f"the demonstration needs nibabel's example {path}. Install nibabel anew")
    volume: Any = nibabel.load(path)
    return np.ascontiguousarray(np.asanyarray(volume.dataobj)[..., 0].T, dtype=np.float32)


def _flat_kernels() -> Iterator[tuple[str, Array]]:
    yield "Sobel", _dense(kernels.sobel())
    yield "Gaussian", _dense(kernels.gaussian(3))
    yield "Laplacian of Gaussian", _dense(kernels.laplacian_of_gaussian(3.5, radius=15))
    disk = _dense(kernels.disk(10))
    yield "Disk", disk / disk.sum()


def _solid_kernels() -> Iterator[tuple[str, Array]]:
    yield "Gaussian", _dense(kernels.gaussian(1, ndim=3, radius=3))
    yield "Laplacian of Gaussian", _dense(kernels.laplacian_of_gaussian(1.2, ndim=3, radius=4))
    ball = _dense(kernels.ball(3))
    yield "Ball", ball / ball.sum()


def _dense(kernel: Factors | Array) -> Array:
    return np.array(kernel.dense() if isinstance(kernel, Factors) else kernel, dtype=np.float64)


def _compare(title: str, kernel: Array, image: Array) -> Result:
    """Factor, plan, run both ways, and say so."""
    # Step 1: factor and plan.
    factors = factorize(kernel, filter_pattern(kernel.ndim))
    axes = tuple(range(kernel.ndim))
    filter_plan = plan(kernel, image.shape, image.dtype, axes=axes)

    # Step 2: run both ways.
    kernel_of_image = kernel.reshape(kernel.shape + (1,) * (image.ndim - kernel.ndim))
    dense_seconds, expected = _time(lambda: ndimage.convolve(image, kernel_of_image))
    filter_plan(image)  # the first time includes what is loaded or compiled once
    seconds, output = _time(lambda: filter_plan(image))
    difference = float(np.max(np.abs(output - expected)))
    result = Result(title, kernel, factors, filter_plan, output, dense_seconds, seconds, difference)

    # Step 3: say so.
    print(f"--- {title}, {result.size}: {kernel.size} numbers\n")
    print(f"{factors!r}\n")
    print(f"{filter_plan}\n")
    _say(
        f"Dense {duration(dense_seconds)}, planned {duration(seconds)}: "
        f"{_ratio(result.speedup)}. The largest difference is {difference:.1e} where "
        f"the results reach {np.max(np.abs(expected)):.3g}."
    )
    return result


def _ratio(speedup: float) -> str:
    if speedup > 1.05:
        return f"{speedup:.1f} times faster"
    return "as fast" if speedup > 0.95 else f"{1 / speedup:.1f} times slower"


def _time(job: Callable[[], Array]) -> tuple[float, Array]:
    """The best time of a few runs, and what they return."""
    best, spent, output = np.inf, 0.0, None
    for _ in range(REPEATS):
        start = time.perf_counter()
        output = job()
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
        if spent > PATIENCE:
            break
    assert output is not None
    return best, output


def _summarise(results: list[Result]) -> None:
    print("--- In short\n")
    heads = ("kernel", "size", "terms", "method", "dense", "planned", "faster")
    rows = [
        (
            r.title,
            r.size,
            str(r.factors.rank),
            r.plan.chosen.title,
            duration(r.dense_seconds),
            duration(r.seconds),
            f"{r.speedup:.1f}x",
        )
        for r in results
    ]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        cells = (
            f"{c:<{w}}" if i in (0, 1, 3) else f"{c:>{w}}"
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}. "
            "Name another one with --output"
        ) from None


def _described(image: Array) -> str:
    return f"{'x'.join(map(str, image.shape))} {image.dtype}"


def _say(text: str) -> None:
    print(textwrap.fill(text, WIDTH, break_long_words=False), end="\n\n")
