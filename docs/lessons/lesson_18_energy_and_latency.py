"""
18. Energy and latency on a phone
=================================

Separable convolutions were invented for phones. What do they save there, in energy and in time?
Counts answer a part of the question. This lesson computes what follows from counts, compares such
a bound with a measurement on this computer, and lists what cannot be known without the phone.
"""

# %%
# Counts
# ------
# Multiply-adds, and bytes moved: every layer reads its input and its weights and writes its output
# once. These do not depend on any device.
import sys
import time

import numpy as np
import torch
from matplotlib import pyplot as plt

import separable as sep
from separable.plot.style import ACCENT, MAIN, PALE

short = "--short" in sys.argv  # the short form counts small networks only
SIDE = 64 if short else 224
names = ("mobilenet_v1", "mobilenet_v3_small") if short else (
    "mobilenet_v1", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0",
)  # fmt: skip
counts = {}
for name in names:
    for dense in (True, False):
        net = sep.nn.models.create(name, dense=dense).eval()
        total = sep.nn.ledger(net, (1, 3, SIDE, SIDE), backward=False).total
        counts[name, dense] = total
print(f"{'':22}{'multiply-adds':>14}{'activations':>14}{'weights':>12}")
for (name, dense), cost in counts.items():
    label = f"{name}{', dense' if dense else ''}"
    print(f"{label:27}{cost.macs / 1e6:7.0f} M", end="")
    print(f"{cost.activation_bytes / 1e6:11.1f} MB{cost.weight_bytes / 1e6:9.1f} MB")

# %%
# Energy per operation
# --------------------
# How much energy an operation takes depends on how a chip is made. A table that is often cited was
# published for one process, 45 nm at 0.9 V (M. Horowitz, 2014, doi:10.1109/ISSCC.2014.6757323).
# Newer chips need less for everything. The *proportions* are what matters: fetching a number from
# memory takes hundreds of times the energy of multiplying it.
PICOJOULE = {  # of one operation
    "float32": {"multiply": 3.7, "add": 0.9, "bytes": 4},
    "int8": {"multiply": 0.2, "add": 0.1, "bytes": 1},  # the sum has 32 bits
}
CACHE, MEMORY = 100 / 8, (1300 / 8, 2600 / 8)  # per byte: 1 MB cache, DRAM from .. to
mac = PICOJOULE["float32"]["multiply"] + PICOJOULE["float32"]["add"]
print(f"a multiply-add in float32     {mac:8.2f} pJ")
print(f"in 8-bit integers             {0.2 + 0.1:8.2f} pJ")
print(f"a float32 from the cache      {4 * CACHE:8.0f} pJ, {4 * CACHE / mac:4.0f} multiply-adds")
print(f"a float32 from memory   {4 * MEMORY[0]:4.0f} .. {4 * MEMORY[1]:5.0f} pJ, ", end="")
print(f"{4 * MEMORY[0] / mac:4.0f} .. {4 * MEMORY[1] / mac:.0f} multiply-adds")

# %%
# Energy per picture
# ------------------
# Between two extremes lies what a phone does. At best each layer finds its input in a cache, and
# only the weights come from memory. At worst all that is moved goes to memory and back.


def energy(cost, kind, *, cached):
    """Return the energy of one picture in mJ: arithmetic, caches, and memory (the lower figure)."""
    one = PICOJOULE[kind]
    share = one["bytes"] / 4  # the counts are of float32
    activations, weights = cost.activation_bytes * share, cost.weight_bytes * share
    arithmetic = cost.macs * (one["multiply"] + one["add"])
    from_cache = activations * CACHE if cached else 0.0
    from_memory = (weights if cached else activations + weights) * MEMORY[0]
    return np.array([arithmetic, from_cache, from_memory]) * 1e-9


print(
    f"{'mJ per picture':28}{'arithmetic':>11}{'caches':>9}{'memory':>9}{'sum':>9}{'dense / separable':>19}"
)
for kind in PICOJOULE:
    for cached in (True, False):
        print(f"{kind}, activations {'in caches' if cached else 'in memory'}")
        for name in names:
            parts = {d: energy(counts[name, d], kind, cached=cached) for d in (True, False)}
            gain = parts[True].sum() / parts[False].sum()
            for dense, part in parts.items():
                label = f"  {name}{', dense' if dense else ''}"
                last = "" if dense else f"{gain:16.1f} x"
                print(
                    f"{label:28}"
                    + f"{part[0]:11.2f}{part[1]:9.2f}{part[2]:9.2f}{part.sum():9.2f}{last}"
                )

# %%
# The gain in energy is smaller than that in multiply-adds wherever bytes dominate: the separable
# networks move 1.5 to 1.9 times as many activations as their dense twins. In 8-bit integers the arithmetic is nearly
# free, and memory decides alone.
figure, ax = plt.subplots(figsize=(8.2, 3.8), layout="constrained")
cases = [(n, d) for n in names for d in (True, False)]
left = np.zeros(len(cases))
labels = [f"{n}{', dense' if d else ''}" for n, d in cases]
table = np.array([energy(counts[case], "int8", cached=False) for case in cases])
for at, (part, colour) in enumerate((("arithmetic", MAIN), ("caches", PALE), ("memory", ACCENT))):
    if table[:, at].any():
        ax.barh(labels, table[:, at], left=left, color=colour, label=part)
    left = left + table[:, at]
ax.invert_yaxis()
ax.set(xlabel="mJ per picture at 45 nm, 8-bit integers, activations in memory")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %%
# A bound on the latency
# ----------------------
# No network takes less time than its multiply-adds at the device's highest rate, and no less than
# its bytes at the highest rate of its memory. For a device of which these two are known from its
# data sheet, this is a lower bound (a *roofline*). Memory of the kind LPDDR4X moves at most 4266
# million transfers per second, of 8 bytes with a bus of 64 bits:
BANDWIDTH = 4266e6 * 8
print(f"memory: at most {BANDWIDTH / 1e9:.1f} GB/s")
print(f"{'least ms per picture, float32':30}" + "".join(f"{r:>9} G/s" for r in (10, 30, 100, 1000)))
for case in cases:
    cost = counts[case]
    least = [max(cost.macs / (r * 1e9), cost.bytes / BANDWIDTH) for r in (10, 30, 100, 1000)]
    label = f"  {case[0]}{', dense' if case[1] else ''}"
    print(f"{label:30}" + "".join(f"{1e3 * s:13.2f}" for s in least))

# %%
# The columns are rates of multiply-adds. With a fast processor the last column is the time of the
# bytes alone: there, most separable networks take about as long as their dense twins, and only moving
# less helps, for example by computing a depthwise and a pointwise convolution together
# (:ref:`lesson 7 <sphx_glr_lessons_built_lesson_07_the_cost_curves.py>`).
#
# How good is such a bound?
# -------------------------
# On this computer both can be had: the bound from its measured rates, and the time. One thread, the
# shortest of several runs.
torch.set_num_threads(1)
roof = sep.plot.roofs()
print(
    f"here: {roof.multiplications / 1e9:.0f} G multiply-adds/s, {roof.bytes / 1e9:.1f} GB/s, one thread"
)


def shortest(job, runs=3 if short else 7):
    """Return the shortest time of a few runs in seconds."""
    took = []
    for _ in range(runs):
        start = time.perf_counter()
        job()
        took.append(time.perf_counter() - start)
    return min(took)


picture = torch.randn(1, 3, SIDE, SIDE)
print(f"{'':28}{'bound':>10}{'PyTorch':>12}{'fused':>12}")
for name, dense in cases:
    net = sep.nn.models.create(name, dense=dense).eval()
    cost = counts[name, dense]
    least = max(cost.macs / roof.multiplications, cost.bytes / roof.bytes)
    with torch.inference_mode():
        fused, _ = sep.nn.fuse(net, picture, measure=False)
        for job in (net, fused):
            job(picture)
        took = [shortest(lambda: net(picture)), shortest(lambda: fused(picture))]  # noqa: B023
    label = f"  {name}{', dense' if dense else ''}"
    print(f"{label:28}{1e3 * least:7.1f} ms" + "".join(f"{1e3 * t:9.1f} ms" for t in took))

# %%
# Measured times are larger than the bound, because no program reaches both rates in every layer, and
# because calls take time, too. They may also be smaller than the bytes demand, where layers are
# computed together or what they exchange stays in the caches. The *order* of the networks is
# what a bound tells reliably; the factor is not.
#
# What cannot be measured here
# ----------------------------
# - **Energy.** This computer's own meter, if it has one that may be read, is not a phone's:
from pathlib import Path

meters = sorted(Path("/sys/class/powercap").glob("*/energy_uj"))
readable = bool(meters) and all(meter.stat().st_mode & 0o444 for meter in meters)
print("meter of this processor:", "found" if readable else "none that may be read")

# %%
# - **The phone's processor**: its rates for 8-bit integers and for each kind of layer, and how many
#   of the layers its neural accelerator takes at all. Depthwise layers are often slow there.
# - **Its caches**, which decide between the two extremes above.
# - **Heat**: a phone lowers its clock after some seconds of work, so that the first pictures are
#   faster than the thousandth.
# - **What else runs**, the camera and the screen, which share memory and battery.
#
# These need the device. What counts do give is the comparison between networks for the same device,
# and the knowledge which of the two, arithmetic or memory, is worth reducing.
