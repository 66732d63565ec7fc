"""
5. Passes, FFT or recursion
===========================

A filter can be run in several ways that all give the same result. The product of a column and a row
can run as two passes. Any kernel can be run by the fast Fourier transform, which costs the same for
a large kernel as for a small one. A Gaussian can even be run by a recursion, whose cost does not
know its width. Which is fastest? That depends on the kernel, the image and the computer.
"""

# %%
# The plan
# --------
# :func:`separable.plan` lists the ways, counts the work of each, and predicts its time with rates
# that were measured. Nothing is run yet, and no image is needed.
import sys

import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form takes a smaller image and fewer kernels
side = 256 if short else 512

blur = sep.kernels.gaussian(2, ndim=2)
p = sep.plan(blur, shape=(side, side), dtype="float32")
print(p)

# %%
# A picture of it, with the clock beside the prediction:
rng = np.random.default_rng(0)
image = rng.random((side, side), dtype=np.float32)
measured = p.measure(image)
print(measured)
ax = sep.plot.plan(measured)

# %%
# The recursion is an approximation, though a very close one, and it is only taken where a tolerance
# allows its error. The others are exact to rounding:
print(f"{'way':20}{'multiplications':>16}   error at most")
for c in sep.plan(blur, shape=(side, side), dtype="float32", tol=1e-3).candidates:
    if c.form is not None:
        print(f"{c.title:20}{c.multiplications:16.1f}   {c.bound:.0e}")

# %%
# A kernel that separates
# -----------------------
# Let the Gaussian grow. Passes cost more and more, the FFT and the recursion stay as they are. Ways
# that are predicted to be far behind are not run: nobody would wait for them.
import time

SHOWN = ("separable", "low-rank", "recursive", "fft", "overlap", "direct")


def times(kernels, tol=None):
    """Milliseconds of each way, predicted and by the clock, one value a kernel; and the plans."""
    plans = [sep.plan(k, shape=image.shape, dtype="float32", tol=tol) for k in kernels]
    predicted = {name: np.full(len(plans), np.nan) for name in SHOWN}
    clock = {name: np.full(len(plans), np.nan) for name in SHOWN}
    for number, made in enumerate(plans):
        for c in made.candidates:
            if c.name not in SHOWN or c.refused:
                continue
            predicted[c.name][number] = 1e3 * c.seconds
            if c.seconds > 30 * made.chosen.seconds:
                continue
            way = sep.plan(
                kernels[number], shape=image.shape, dtype="float32", tol=tol, method=c.name
            )
            way(image)  # the first run prepares
            took = []
            for _ in range(3):
                start = time.perf_counter()
                way(image)
                took.append(time.perf_counter() - start)
            clock[c.name][number] = 1e3 * min(took)
    return predicted, clock, plans


def table(name, values, clock, plans):
    ways = [way for way in SHOWN if np.isfinite(clock[way]).any()]
    print(f"{name:>7}" + "".join(f"{way:>11}" for way in ways) + "   (ms)   taken")
    for number, value in enumerate(values):
        cells = (clock[way][number] for way in ways)
        row = "".join(f"{'-' if np.isnan(c) else f'{c:.2f}':>11}" for c in cells)
        print(f"{value:7}{row}          {plans[number].chosen.title}")


sigmas = (1, 4, 16) if short else (1, 2, 4, 8, 16, 32, 64)
gaussians = [sep.kernels.gaussian(s, ndim=2) for s in sigmas]
predicted, clock, plans = times(gaussians, tol=1e-3)
table("sigma", sigmas, clock, plans)

# %%
# Lines are predictions; marks are measured on the machine that built this page.
import matplotlib.pyplot as plt
from separable.plot.style import ACCENT, INK, MAIN, MUTED

STYLES = {
    "separable": (MAIN, "o", "-", "two passes"),
    "low-rank": (MAIN, "o", "-", "passes, a pair for each term"),
    "recursive": (ACCENT, "D", "--", "recursion"),
    "fft": (INK, "s", ":", "FFT"),
    "overlap": ("#8a6d1d", "v", "-.", "FFT in parts"),
    "direct": (MUTED, "^", "--", "all weights"),
}


def draw(at, predicted, clock, label):
    _, ax = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for name, (colour, mark, dashes, title) in STYLES.items():
        if np.isfinite(predicted[name]).any():
            ax.plot(at, predicted[name], dashes, color=colour, label=title)
            ax.plot(at, clock[name], mark, color=colour)
    ax.set_xscale("log", base=2)
    ax.set(yscale="log", xlabel=label, ylabel="time (ms)", xticks=at, xticklabels=at)
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


draw(sigmas, predicted, clock, "sigma of the Gaussian (pixels)")

# %%
# Where do the lines cross? The clock can say it for the kernels that were run; the predictions for
# every one, without running anything.


def measured_crossing(values, clock, one, others):
    """The first value from which one way is faster than the others, by the clock."""
    rest = np.fmin.reduce([clock[name] for name in others])
    faster = [v for v, a, b in zip(values, clock[one], rest, strict=True) if a < b]
    return faster[0] if faster else None


def predicted_crossing(ways, kernel_of, values, tol=None):
    """The first value for which the plan takes one of these ways."""
    for value in values:
        made = sep.plan(kernel_of(value), shape=image.shape, dtype="float32", tol=tol)
        if made.chosen.name in ways:
            return value
    return None


def say(sentence, value, values):
    print(f"{sentence:46}", f"from {value}" if value is not None else f"never up to {values[-1]}")


def gaussian_of(sigma):
    return sep.kernels.gaussian(sigma, ndim=2)


widths = range(1, 65, 3 if short else 1)
found = measured_crossing(sigmas, clock, "recursive", ("separable",))
say("recursion before passes, by the clock: sigma", found, sigmas)
found = predicted_crossing(("recursive",), gaussian_of, widths, tol=1e-3)
say("recursion before passes, predicted: sigma", found, widths)
found = predicted_crossing(("fft", "overlap"), gaussian_of, widths)
say("FFT before exact passes, predicted: sigma", found, widths)

# %%
# A kernel that does not
# ----------------------
# A disk takes a pair of passes for each term, and the number of terms grows with its radius. Now the
# FFT has an easier game.
radii = (2, 8, 24) if short else (1, 2, 4, 8, 16, 24, 32, 40)
disks = [sep.kernels.disk(r) for r in radii]
predicted, clock, plans = times(disks)
table("radius", radii, clock, plans)
draw(radii, predicted, clock, "radius of the disk (pixels)")

# %%
# The step in the grey line is where the compiled dense filter ends: beyond some thousands of weights it
# leaves the work to SciPy's, for there it has no chance anyway.
sizes = range(1, 41, 4 if short else 1)
clock["fastest FFT"] = np.fmin(clock["fft"], clock["overlap"])
found = measured_crossing(radii, clock, "fastest FFT", ("low-rank", "direct"))
say("FFT before all others, by the clock: radius", found, radii)
found = predicted_crossing(("fft", "overlap"), sep.kernels.disk, sizes)
say("FFT before all others, predicted: radius", found, sizes)

# %%
# Why the count is not the time
# -----------------------------
# By multiplications alone the FFT would win much earlier. Compare the ways for the largest disk:
# what a multiplication costs differs by far, because passes run through neighbouring pixels that
# the processor takes many at a time, while transforms jump through memory.
print(f"{'way':20}{'multiplications':>16}{'predicted':>12}{'for each':>12}")
for c in plans[-1].candidates:
    if c.form is not None and not np.isnan(c.seconds):
        each = c.seconds / (c.multiplications * image.size)
        print(
            f"{c.title:20}{c.multiplications:16.0f}{c.seconds * 1e3:9.1f} ms{each * 1e12:9.0f} ps"
        )

# %%
# Your own machine
# ----------------
# The rates come from the profile named under each plan. ``separable machine`` on the command line
# measures yours; from then on the plans are about your computer.
print(sep.plan(blur, shape=image.shape, dtype="float32").machine)
