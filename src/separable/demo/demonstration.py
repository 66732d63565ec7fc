"""Run the demonstration and print its results.

All kernels are given as dense arrays; the library finds their factors by itself.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from importlib import import_module
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
PATIENCE = 0.6  # seconds after which a timing is not repeated
REPEATS = 5
WIDTH = 80  # columns


def run_demo(folder: Path, *, step: int = 1) -> list[Result]:
    """Run the demonstration: print the results and write two pictures.

    Parameters
    ----------
    folder : path
        Folder for ``demo.png`` and ``demo-volume.png``; created if it does not exist.
    step : int
        Use every `step`-th pixel along each axis: more than 1 for a quick try.

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
        "Each kernel below is given as a dense array. It is factored, every method is planned, "
        "the fastest one is run, and its result is compared with the dense convolution of SciPy "
        "(scipy.ndimage.convolve). Times are the best of up to 5 runs."
    )
    _say(f"Photograph: an astronaut, {_described(photo)}, filtered along its first two axes.")
    flat = [_compare(title, kernel, photo) for title, kernel in _flat_kernels()]
    _say(f"Volume: magnetic resonance image of a head, {_described(volume)}, all three axes.")
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
    """Raise an error that names all missing packages."""
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise SeparableError(
            f"the demonstration needs {' and '.join(missing)}. "
            f"Install the extra: {install_command('demo')}"
        )


def _photograph() -> Array:
    """Return the portrait of an astronaut (NASA, public domain) of scikit-image."""
    from skimage import data as images  # optional

    data: Any = images
    return np.asarray(data.astronaut(), dtype=np.float32)


def _volume() -> Array:
    """Return the first of the two volumes in the example file of nibabel, axes (z, y, x)."""
    import nibabel  # optional

    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    if not path.is_file():
        raise FileError(
            f"the demonstration needs the example file of nibabel, {path}. Reinstall nibabel"
        )
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
    """Factor, plan, run and time the dense filters and the plan, and print the results."""
    # Step 1: factor and plan.
    factors = factorize(kernel, filter_pattern(kernel.ndim))
    axes = tuple(range(kernel.ndim))
    filter_plan = plan(kernel, image.shape, image.dtype, axes=axes)
    direct = plan(kernel, image.shape, image.dtype, axes=axes, method="direct")

    # Step 2: time each; the first run of a plan includes loading and compilation.
    image_kernel = kernel.reshape(kernel.shape + (1,) * (image.ndim - kernel.ndim))
    dense_seconds, expected = _time(lambda: ndimage.convolve(image, image_kernel))
    times = [f"SciPy's dense filter {duration(dense_seconds)}"]
    direct(image)
    times.append(f"our dense filter {duration(_time(lambda: direct(image))[0])}")
    opencv = _opencv(kernel, image)
    if opencv is not None:
        times.append(f"OpenCV {duration(_time(opencv)[0])}")
    filter_plan(image)
    seconds, output = _time(lambda: filter_plan(image))
    times.append(f"{filter_plan.chosen.title} {duration(seconds)}")
    difference = float(np.max(np.abs(output - expected)))
    result = Result(title, kernel, factors, filter_plan, output, dense_seconds, seconds, difference)

    # Step 3: print.
    print(f"--- {title}, {result.size}: {kernel.size} weights\n")
    print(f"{factors!r}\n")
    print(f"{filter_plan}\n")
    _say("; ".join(times) + ".")
    _say(
        f"Largest difference from SciPy: {difference:.1e}; largest value of the result: "
        f"{np.max(np.abs(expected)):.3g}."
    )
    return result


def _opencv(kernel: Array, image: Array) -> Callable[[], Array] | None:
    """Return OpenCV's dense filter of the same image; None without OpenCV or for volumes."""
    if kernel.ndim != 2 or find_spec("cv2") is None:
        return None
    cv2: Any = import_module("cv2")
    flipped = np.ascontiguousarray(kernel[::-1, ::-1], np.float32)
    return lambda: cv2.filter2D(image, -1, flipped, borderType=cv2.BORDER_REFLECT)


def _time(job: Callable[[], Array]) -> tuple[float, Array]:
    """Return the best time of a few runs, and their result."""
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
    print("--- Summary\n")
    heads = ("kernel", "size", "terms", "method", "dense", "planned", "faster")
    rows = [
        (
            r.title,
            r.size,
            str(r.factors.rank),
            r.plan.chosen.name,
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
    _say(
        "terms: separable terms of the exact kernel; dense: time of scipy.ndimage.convolve; "
        "planned: time of the chosen method; faster: dense divided by planned."
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot create the folder {folder}: {(error.strerror or str(error)).lower()}. "
            "Choose another one with --output"
        ) from None


def _described(image: Array) -> str:
    return f"{'x'.join(map(str, image.shape))} {image.dtype}"


def _say(text: str) -> None:
    print(textwrap.fill(text, WIDTH, break_long_words=False), end="\n\n")
