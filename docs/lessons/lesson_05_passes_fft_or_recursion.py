"""
5. Passes, FFT or recursion
===========================

A filter can be run by several methods that all give the same result. The product of a column and a
row can run as two passes. Any kernel can be run by the fast Fourier transform, which costs the
same for a large kernel as for a small one. A Gaussian can even be run by a recursive filter, whose
cost is independent of its width. Which method is fastest depends on the kernel, the image and the
computer.
"""

# %%
# The plan
# --------
# :func:`separable.plan` lists the methods, counts the operations of each, and predicts its time
# from measured rates. Nothing is run yet, and no image is needed.
import sys

import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form takes a smaller image and fewer kernels
side = 256 if short else 512

blur = sep.kernels.gaussian(2, ndim=2)
p = sep.plan(blur, shape=(side, side), dtype="float32")
print(p)

# %%
# Measured times beside the predictions:
rng = np.random.default_rng(0)
image = rng.random((side, side), dtype=np.float32)
measured = p.measure(image)
print(measured)
ax = sep.plot.plan(measured)

# %%
# The recursive filter is an approximation, though a very close one, and is only used if a
# tolerance allows its error. The others are exact up to rounding:
print(f"{'method':32}{'multiplications':>16}   error at most")
for c in sep.plan(blur, shape=(side, side), dtype="float32", tol=1e-3).candidates:
    if c.form is not None:
        print(f"{c.title:32}{c.multiplications:16.1f}   {c.bound:.0e}")

# %%
# A separable kernel
# ------------------
# As the Gaussian grows, passes cost more and more, while the FFT and the recursion stay the same.
# Methods that are predicted to be much slower are not run.
import time

SHOWN = ("separable", "low-rank", "recursive", "fft", "overlap", "direct")


def times(kernels, tol=None):
    """Return predicted and measured milliseconds of each method, per kernel, and the plans."""
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
    print(f"{name:>7}" + "".join(f"{way:>11}" for way in ways) + "   (ms)   chosen")
    for number, value in enumerate(values):
        cells = (clock[way][number] for way in ways)
        row = "".join(f"{'-' if np.isnan(c) else f'{c:.2f}':>11}" for c in cells)
        print(f"{value:7}{row}          {plans[number].chosen.title}")


sigmas = (1, 4, 16) if short else (1, 2, 4, 8, 16, 32, 64)
gaussians = [sep.kernels.gaussian(s, ndim=2) for s in sigmas]
predicted, clock, plans = times(gaussians, tol=1e-3)
table("sigma", sigmas, clock, plans)

# %%
# Lines are predictions; marks were measured on the machine that built this page.
import matplotlib.pyplot as plt
from separable.plot.style import ACCENT, INK, MAIN, MUTED, plain_ticks

STYLES = {
    "separable": (MAIN, "o", "-", "two passes"),
    "low-rank": (MAIN, "o", "-", "passes, one pair per term"),
    "recursive": (ACCENT, "D", "--", "recursion"),
    "fft": (INK, "s", ":", "FFT"),
    "overlap": ("#8a6d1d", "v", "-.", "FFT in tiles"),
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
    ax.xaxis.minorticks_off()
    plain_ticks(ax.yaxis)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


draw(sigmas, predicted, clock, "sigma of the Gaussian (pixels)")

# %%
# The crossings of the lines, measured for the kernels that were run, and predicted for all kernels
# without running anything:


def measured_crossing(values, clock, one, others):
    """Return the first value from which one method is faster than the others, as measured."""
    rest = np.fmin.reduce([clock[name] for name in others])
    faster = [v for v, a, b in zip(values, clock[one], rest, strict=True) if a < b]
    return faster[0] if faster else None


def predicted_crossing(ways, kernel_of, values, tol=None):
    """Return the first value for which the plan chooses one of these methods."""
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
# A kernel that is not separable
# ------------------------------
# A disk needs a pair of passes per term, and the number of terms grows with its radius. The FFT is
# therefore competitive for smaller kernels.
radii = (2, 8, 24) if short else (1, 2, 4, 8, 16, 24, 32, 40)
disks = [sep.kernels.disk(r) for r in radii]
predicted, clock, plans = times(disks)
table("radius", radii, clock, plans)
draw(radii, predicted, clock, "radius of the disk (pixels)")

# %%
# At the step in the grey line the compiled dense filter ends: beyond some thousands of weights
# SciPy's dense filter is used, because no dense filter is competitive there.
sizes = range(1, 41, 4 if short else 1)
clock["fastest FFT"] = np.fmin(clock["fft"], clock["overlap"])
found = measured_crossing(radii, clock, "fastest FFT", ("low-rank", "direct"))
say("FFT before all others, by the clock: radius", found, radii)
found = predicted_crossing(("fft", "overlap"), sep.kernels.disk, sizes)
say("FFT before all others, predicted: radius", found, sizes)

# %%
# Why the count is not the time
# -----------------------------
# By multiplications alone the FFT would win much earlier. For the largest disk the table compares
# the predicted time per multiplication. It differs greatly, because passes read neighbouring
# pixels, which the processor handles many at a time, while transforms access memory in large
# steps.
print(f"{'method':32}{'multiplications':>16}{'predicted':>12}{'per mult.':>12}")
for c in plans[-1].candidates:
    if c.form is not None and not np.isnan(c.seconds):
        each = c.seconds / (c.multiplications * image.size)
        print(
            f"{c.title:32}{c.multiplications:16.0f}{c.seconds * 1e3:9.1f} ms{each * 1e12:9.0f} ps"
        )

# %%
# Your own machine
# ----------------
# A plan says whose rates it uses: those of a similar computer, adjusted to yours by a short probe,
# until ``separable machine`` on the command line has measured yours.
print(sep.plan(blur, shape=image.shape, dtype="float32").machine)
