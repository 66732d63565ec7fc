"""
14. Scaling a network
=====================

A network works, and now a larger computer is available. Should the network become deeper, wider,
or receive finer images? EfficientNet's answer: all three, in a fixed proportion. This lesson
counts the cost of each, checks the proportion, and measures the time.
"""

# %%
# Three ways to scale
# -------------------
# EfficientNet B0 is a network of depthwise separable blocks for images of 224 x 224. Three numbers
# can be changed: *depth* is how often the blocks repeat, *width* how many channels they have,
# *resolution* the side of the image. The networks here are built without memory for their weights,
# on PyTorch's device "meta", and counted by the ledger, which runs nothing.
import functools
import math
import sys
import time

import numpy as np
import torch
from matplotlib import pyplot as plt

import separable as sep
from separable.nn.models import SCALINGS, EfficientNet, Scaling, compound_scaling
from separable.plot.style import ACCENT, INK, MAIN, MUTED

short = "--short" in sys.argv  # the form that takes seconds: fewer networks, smaller images
torch.set_num_threads(1)  # one core, so that times can be compared


@functools.cache
def count(scaling):
    """The ledger of an EfficientNet, for one image."""
    with torch.device("meta"):
        net = EfficientNet(scaling).eval()
    side = net.sample_shape[-1]
    return sep.nn.ledger(net, (1, 3, side, side), backward=False)


def grown(depth=1.0, width=1.0, resolution=1.0):
    return Scaling(depth=depth, width=width, resolution=round(224 * resolution))


base = count(grown())
ways = {
    "depth": lambda factor: grown(depth=factor),
    "width": lambda factor: grown(width=factor),
    "resolution": lambda factor: grown(resolution=factor),
}
doubled = {name: count(way(2)) for name, way in ways.items()}
print(f"{'':16}{'multiply-adds':>14}{'parameters':>14}{'activations':>14}")
start = base.total
print(
    f"B0 {start.macs / 1e6:25.0f} M{start.parameters / 1e6:12.2f} M"
    f"{start.activation_bytes / 2**20:10.0f} MiB"
)
for name, found in doubled.items():
    ratios = [
        getattr(found.total, what) / getattr(start, what)
        for what in ("macs", "parameters", "activation_bytes")
    ]
    print(f"{'2 x ' + name:16}" + "".join(f"{ratio:12.2f} x" for ratio in ratios))

# %%
# Twice the depth is twice the work. Twice the width is four times the work, because a matrix from
# C to C channels has C² weights; twice the resolution is four times the work, because there are
# four times as many positions. They differ in their *other* costs. A finer image needs no more
# weights, but four times the memory for activations; more channels need more weights.
#
# None of these is exact. The first and the last layers have no depth, channels are rounded to
# multiples of 8, and not everything in a separable network grows with the square of its width.
#
# Width and separable layers
# --------------------------
# A depthwise filter has weights per channel, not per pair of channels. So we count depthwise
# convolutions (one group per channel) and all others separately:


def split(ledger):
    """Multiply-adds of the depthwise convolutions and of all others."""
    found = np.zeros(2)
    for layer in ledger.layers:
        for call in layer.convolutions:
            conv = call.convolution
            found[0 if conv.groups > 1 else 1] += conv.multiplications
    return found


print(f"{'':16}{'depthwise':>12}{'others':>12}{'share of depthwise':>22}")
for name, found in {"B0": base, **{f"2 x {n}": f for n, f in doubled.items()}}.items():
    deep, rest = split(found)
    ratios = split(found) / split(base)
    print(f"{name:16}{ratios[0]:10.2f} x{ratios[1]:10.2f} x{deep / (deep + rest):22.1%}")

# %%
# The filters grow with the width, the matrices with its square. This is the C_out in 1 / C_out + 1 / K²
# of :ref:`lesson 7 <sphx_glr_lessons_built_lesson_07_the_cost_curves.py>`: the wider the network, the
# closer separable convolution comes to its limit, K² times fewer multiplications than dense.
#
# The compound rule
# -----------------
# Tan and Le (2019) searched, with a small network, for the best way to spend *twice* the
# multiplications, and found depth times 1.2, width times 1.1, resolution times 1.15. Further
# doublings repeat the step:
#
# .. code-block:: none
#
#     depth 1.2 ^ φ     width 1.1 ^ φ     resolution 1.15 ^ φ
#
# The factor of a step, by the rule and by the ledger:
step = 1.2 * 1.1**2 * 1.15**2
print(f"1.2 x 1.1² x 1.15² = {step:.3f}\n")
phis = range(2) if short else range(8)
law = [count(compound_scaling(phi)) for phi in phis]
print("phi  depth  width  side   2^phi  the rule  multiply-adds  parameters")
for phi, found in zip(phis, law, strict=True):
    s = compound_scaling(phi)
    total = found.total
    print(
        f"{phi:3}{s.depth:7.2f}{s.width:7.2f}{s.resolution:6}{2**phi:8}{step**phi:10.2f}"
        f"{total.macs / start.macs:13.2f} x{total.parameters / start.parameters:10.2f} x"
    )

# %%
# The rule is 4 % below two, and yet the networks cost more than two to the power of phi: a network
# has whole layers, and fractions of layers are rounded up. The growth from row to row is what the
# rule describes:
growth = (law[-1].total.macs / law[0].total.macs) ** (1 / phis[-1])
print(f"a step multiplies the multiply-adds by {growth:.2f}, on average over {phis[-1]}")

# %%
# Four times the work, spent in four ways
# ---------------------------------------
# Depth times four, or width or resolution times two. For the compound rule we look for the largest
# phi that costs no more.
budget = 4


def affordable(step):
    """The largest phi within the budget, going down from what the rule says."""
    phi = math.log(budget) / math.log(1.2 * 1.1**2 * 1.15**2)
    while count(compound_scaling(phi)).total.macs > budget * start.macs:
        phi -= step
    return phi


plans = {
    "depth alone": grown(depth=budget),
    "width alone": grown(width=budget**0.5),
    "resolution alone": grown(resolution=budget**0.5),
    "compound": compound_scaling(affordable(0.9 if short else 0.1)),
}
spent = {name: count(s) for name, s in plans.items()}
print(f"{'':18}depth  width  side  multiply-adds  parameters  activations")
for name, s in plans.items():
    total = spent[name].total
    print(
        f"{name:18}{s.depth:5.2f}{s.width:7.2f}{s.resolution:6}{total.macs / start.macs:13.2f} x"
        f"{total.parameters / start.parameters:10.2f} x"
        f"{total.activation_bytes / start.activation_bytes:11.2f} x"
    )

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.6, 2.8), layout="constrained", sharey=True)
colours = ("#b9b9c0", "#b9b9c0", "#b9b9c0", MAIN)
for ax, (title, what) in zip(
    axes,
    {
        "multiply-adds": "macs",
        "parameters": "parameters",
        "bytes of activations": "activation_bytes",
    }.items(),
    strict=True,
):
    values = [getattr(found.total, what) / getattr(start, what) for found in spent.values()]
    bars = ax.barh(list(spent), values, color=colours, height=0.6)
    ax.bar_label(bars, fmt="%.1f", padding=3, size=9)
    ax.axvline(1, color=INK, lw=0.8)
    ax.set(title=title, xlim=(0, 1.2 * max(values)))
    ax.set_xlabel("times that of B0")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].invert_yaxis()

# %%
# The compound network is between the extremes in every respect. That alone is not a reason to
# prefer it: counts cannot say which of the four *learns* best. The paper's reason is an
# experiment, training on ImageNet, in which each single way soon stopped to improve and the
# compound did not. There is also an argument: a finer image needs more layers for a position to
# see as much of the scene as before, and more channels for the finer patterns that it shows.
#
# B0 to B7
# --------
# The published family follows the rule in rounded steps. The paper prints parameters and
# multiply-adds ("FLOPS" in its table). Our counts, with three of them:
PAPER = {"b0": (5.3e6, 0.39e9), "b1": (7.8e6, 0.70e9), "b7": (66e6, 37e9)}
shown = PAPER if short else SCALINGS
family = {name: count(SCALINGS[name]).total for name in shown}
print("      side   parameters    paper          multiply-adds    paper")
for name, total in family.items():
    row = f"{name.upper():4}{SCALINGS[name].resolution:6}{total.parameters / 1e6:11.2f} M"
    if name in PAPER:
        weights, macs = PAPER[name]
        off = total.parameters / weights - 1, total.macs / macs - 1
        row += f"{weights / 1e6:7g} M {off[0]:+6.1%}{total.macs / 1e9:12.2f} G"
        row += f"{macs / 1e9:7g} G {off[1]:+6.1%}"
    else:
        row += f"{total.macs / 1e9:29.2f} G"
    print(row)

# %%
# The parameters agree within the paper's rounding. The multiply-adds differ slightly: it depends
# on whether normalisation is counted (we do not), and no single rule gives all figures of the
# paper; see :doc:`/networks`.
figure, ax = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
factors = (1, 2) if short else (1, 1.5, 2, 3)
for (name, way), colour, dashes in zip(
    ways.items(), (INK, ACCENT, MUTED), ("--", "-.", ":"), strict=True
):
    line = [count(way(factor)).total for factor in factors]
    ax.plot([t.macs for t in line], [t.parameters for t in line], dashes, color=colour, label=name)
totals = [found.total for found in law]
ax.plot([t.macs for t in totals], [t.parameters for t in totals], color=MAIN, label="the rule")
for name, total in family.items():
    ax.plot(total.macs, total.parameters, "o", color=MAIN)
    ax.annotate(
        name.upper(), (total.macs, total.parameters), (5, -10), textcoords="offset points", size=9
    )
ax.set(xscale="log", yscale="log", xlabel="multiply-adds", ylabel="parameters")
ax.set_title("where each way leads", size=11)
ax.set_yticks([5e6, 1e7, 2e7, 5e7], ["5 M", "10 M", "20 M", "50 M"])
ax.set_xticks(
    [5e8, 1e9, 2e9, 5e9, 1e10, 2e10, 4e10], ["0.5 G", "1 G", "2 G", "5 G", "10 G", "20 G", "40 G"]
)
ax.minorticks_off()
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %%
# Measured times
# --------------
# Real networks now, with weights, for one image, on one core of the machine that built this page.


def seconds(scaling, side, repeats):
    """Return the shortest of a few times."""
    net = EfficientNet(scaling, classes=10).eval()
    image = torch.randn(1, 3, side, side)
    took = []
    with torch.inference_mode():
        for _ in range(repeats + 1):  # the first one prepares
            begin = time.perf_counter()
            net(image)
            took.append(time.perf_counter() - begin)
    return min(took[1:])


shrunk = 64 / 224 if short else 1  # the short form has small images
repeats = 1 if short else 8
least = seconds("b0", round(224 * shrunk), repeats)
print(
    f"B0: {1e3 * least:.0f} ms, {start.macs * shrunk**2 / least / 1e9:.1f} G multiply-adds a second"
)
for name, way in list(ways.items())[: 1 if short else 3]:
    side = round(224 * shrunk * (2 if name == "resolution" else 1))
    took = seconds(way(2), side, repeats) / least
    more = doubled[name].total.macs / start.macs
    print(f"2 x {name:12} {more:.2f} times the multiply-adds, {took:.2f} times the time")

# %%
# Width tends to take less time than its count suggests: processors are best at wide matrices, and
# the operations limited by memory (filters, normalisation, activations) only double. Resolution
# multiplies everything equally. So the best way to spend *time* need not be the best way to spend
# multiplications, and it differs between machines. Counts say what is possible, measurements what
# is real.
