"""Run the demonstration and print its results.

All kernels are given as dense arrays; the library finds their factors by itself.
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
from separable.demo.demo_pictures import DENSE, PLANNED, Result, draw_photo, draw_volume
from separable.distribution import install_command
from separable.errors import FileError, SeparableError
from separable.factorize import factorize
from separable.factors import Factors
from separable.files import write_image
from separable.plan import plan
from separable.plan.library_calls import PASSES, library_calls
from separable.plan.plan_text import duration

__all__ = ["run_demo"]

Array: TypeAlias = NDArray[Any]
Own = Callable[[Array], Array]

SHORT = {"Laplacian of Gaussian": "LoG"}  # in the summary

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
        "(scipy.ndimage.convolve). Times are the best of up to 5 runs, without start-up. They are "
        "compared with the calls a user would make otherwise: SciPy's own function for the kernel, "
        "and OpenCV if it is installed."
    )
    _say(f"Photograph: an astronaut, {_described(photo)}, filtered along its first two axes.")
    flat = [_compare(*item, photo) for item in _flat_kernels()]
    _say(f"Volume: magnetic resonance image of a head, {_described(volume)}, all three axes.")
    solid = [_compare(*item, volume) for item in _solid_kernels()]
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


def _flat_kernels() -> Iterator[tuple[str, Array, Own | None]]:
    """Yield kernels for photographs, and SciPy's own functions for them."""
    yield "Sobel", _dense(kernels.sobel()), _each_channel(lambda x: ndimage.sobel(x, axis=1))
    yield (
        "Gaussian",
        _dense(kernels.gaussian(3)),
        lambda x: ndimage.gaussian_filter(x, 3, axes=(0, 1)),
    )
    log = _dense(kernels.laplacian_of_gaussian(3.5, radius=15))
    yield "Laplacian of Gaussian", log, _each_channel(lambda x: ndimage.gaussian_laplace(x, 3.5))
    disk = _dense(kernels.disk(10))
    yield "Disk", disk / disk.sum(), None


def _each_channel(function: Own) -> Own:
    """Return a function that filters the planes of the last axis one by one."""
    return lambda x: np.stack([function(plane) for plane in np.moveaxis(x, -1, 0)], axis=-1)


def _solid_kernels() -> Iterator[tuple[str, Array, Own | None]]:
    """Yield kernels for volumes, and SciPy's own functions for them."""
    smooth = _dense(kernels.gaussian(1, ndim=3, radius=3))
    yield "Gaussian", smooth, lambda x: ndimage.gaussian_filter(x, 1, radius=3)
    log = _dense(kernels.laplacian_of_gaussian(1.2, ndim=3, radius=4))
    yield "Laplacian of Gaussian", log, lambda x: ndimage.gaussian_laplace(x, 1.2)
    ball = _dense(kernels.ball(3))
    yield "Ball", ball / ball.sum(), None


def _dense(kernel: Factors | Array) -> Array:
    return np.array(kernel.dense() if isinstance(kernel, Factors) else kernel, dtype=np.float64)


def _compare(title: str, kernel: Array, own: Own | None, image: Array) -> Result:
    """Factor, plan, run and time the kernel and its peers, and print the results."""
    # Step 1: factor and plan.
    factors = factorize(kernel)
    axes = tuple(range(kernel.ndim))
    filter_plan = plan(kernel, image.shape, image.dtype, axes=axes)
    direct = plan(kernel, image.shape, image.dtype, axes=axes, method="direct")

    # Step 2: time each; the first run of a plan includes loading and compilation.
    times: dict[str, float] = {}
    expected: Array | None = None
    calls = {n: call for n, call in library_calls(filter_plan, image).items() if n != PASSES}
    if own is not None:
        calls["SciPy, own"] = lambda: own(image)
    for name, call in calls.items():
        times[name], output = _time(call)
        expected = output if expected is None else expected
    direct(image)
    times[DENSE], _ = _time(lambda: direct(image))
    filter_plan(image)
    times[PLANNED], output = _time(lambda: filter_plan(image))
    assert expected is not None
    difference = float(np.max(np.abs(output - expected)))
    result = Result(title, kernel, factors, filter_plan, output, times, difference)

    # Step 3: print.
    print(f"--- {title}, {result.size}: {kernel.size} weights\n")
    print(f"{factors!r}\n")
    print(f"{filter_plan}\n")
    _say("Measured: " + "; ".join(f"{n} {duration(t)}" for n, t in times.items()) + ".")
    _say(
        f"Planned is {result.speedup:.1f} times as fast as the fastest other library "
        f"({result.best_peer}). Its predicted time was {duration(filter_plan.chosen.seconds)}."
    )
    _say(
        f"Largest difference from SciPy: {difference:.1e}; largest value of the result: "
        f"{np.max(np.abs(expected)):.3g}."
    )
    return result


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
    names = ("SciPy, dense", "SciPy, own", "OpenCV", DENSE)
    heads = ("kernel", "size", "dense", "own", "OpenCV", "here", "planned", "predicted", "faster")
    rows = [
        (
            SHORT.get(r.title, r.title),
            r.size,
            *(duration(r.times[n]) if n in r.times else "-" for n in names),
            duration(r.seconds),
            duration(r.plan.chosen.seconds),
            f"{r.speedup:.1f}x",
        )
        for r in results
    ]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        cells = (
            f"{c:<{w}}" if i < 2 else f"{c:>{w}}"
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print()
    _say(
        "dense: scipy.ndimage.convolve; own: SciPy's own function for the kernel; OpenCV: "
        "sepFilter2D for products, else filter2D; here: the dense method of this package; planned: "
        "the chosen method, measured and predicted; faster: the fastest other library (dense, own, "
        "OpenCV) divided by planned."
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
