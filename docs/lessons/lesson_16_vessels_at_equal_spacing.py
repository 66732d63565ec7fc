"""
16. Vessels at equal spacing
============================

Scanners seldom sample all directions alike: pixels of half a millimetre, in slices two millimetres
apart. A filter that counts voxels then sees a vessel differently along and across the slices. This
lesson samples a volume anew at 1 mm along every axis, finds its vessels with Frangi's filter, and
counts what separable passes save in both steps.
"""

# %%
# A volume with vessels
# ---------------------
# A tree of vessels grows in a box: each branch walks in small steps, turns a little at random, and
# splits into two thinner ones. It is drawn on a fine grid of 0.5 mm, with soft edges. As in a
# scanner a slice of 2 mm is the mean of four fine planes; then come noise and a slowly changing
# background.
import sys
import textwrap
import time

import numpy as np
from matplotlib import pyplot as plt

import separable as sep
from separable import features, resample
from separable.plot.style import ACCENT, MAIN, plain_ticks

short = "--short" in sys.argv  # the short form takes a smaller box
FINE = 0.5  # mm between samples of the fine grid
size = np.array((48, 64, 64) if short else (96, 128, 128))  # mm, along z, y and x
rng = np.random.default_rng(7)


def grow(start, direction, radius, points):
    """Add the points of a branch and of those that leave it: (z, y, x, radius), in mm."""
    place = np.array(start, float)
    for _ in range(int(rng.integers(24, 40))):
        direction = direction + 0.12 * rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        place = place + 0.4 * direction
        points.append((*place, radius))
    if radius > 0.7:
        for _ in range(2):
            turned = direction + 0.7 * rng.standard_normal(3)
            grow(place, turned / np.linalg.norm(turned), radius * rng.uniform(0.7, 0.85), points)


def draw(points):
    """Return the vessels on the fine grid, between 0 and 1."""
    vessels = np.zeros(np.rint(size / FINE).astype(int), np.float32)
    for *place, radius in points:
        middle = np.array(place) / FINE
        low = np.maximum(np.floor(middle - radius / FINE - 2).astype(int), 0)
        high = np.minimum(np.ceil(middle + radius / FINE + 3).astype(int), vessels.shape)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = np.ogrid[box]
        distance = np.sqrt(sum((g - m) ** 2 for g, m in zip(grid, middle, strict=True))) * FINE
        np.maximum(vessels[box], np.clip((radius - distance) / FINE + 0.5, 0, 1), out=vessels[box])
    return vessels


points = []
for _ in range(6):
    grow(rng.uniform(0.2, 0.8, 3) * size, rng.standard_normal(3), rng.uniform(1.2, 2.0), points)
truth = draw(points)
spacing = (2.0, 0.5, 0.5)  # mm, of the slices and within them
volume = resample.downsample(truth, (4, 1, 1))
z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.shape), indexing="ij", sparse=True)
volume = 100 * volume + 60 + 15 * (x + y * z) + 14 * rng.standard_normal(volume.shape)
volume = volume.astype(np.float32)
print(f"slices {spacing[0]} mm apart, pixels of {spacing[1]} mm")
print("voxels (z, y, x):", " x ".join(map(str, volume.shape)))

# %%
# New samples along every axis
# ----------------------------
# Along each axis the new samples are sums of a few old ones, with weights that depend on where the
# new sample lies between them: a matrix with a narrow band of weights. Axes are independent of each
# other, so the whole is three passes, one after the other, as with a separable kernel. The
# planner lists them, from the shape alone:
p = resample.plan_resample(volume.shape, spacing, 1.0, "float32", interpolation="cubic")
print(p)

# %%
# Along z there are more samples than before, and a new one lies between four old ones. Along y and
# x there are fewer. There the plan has more weights than a cubic needs: the filter against aliasing
# is in them. Axes that shrink come first, so that the later passes have less to do.
#
# Aliasing
# --------
# Samples 2 mm apart cannot show stripes that are finer than 4 mm. If such stripes are in the image
# when it is sampled, they do not vanish: they come back as wide stripes that are not there. The
# rings of this picture become ever finer outwards. With every fourth sample, new rings appear;
# smoothed first, the fine rings become an even grey. How much to smooth follows from the ratio of
# the distances: a Gaussian of sigma (4 - 1) / 2 old samples.
side = np.linspace(-1, 1, 256)
rings = 0.5 + 0.5 * np.cos(110 * (side[:, None] ** 2 + side**2))
coarse = {
    "every fourth sample": resample.resize(rings, (64, 64), interpolation="nearest"),
    "smoothed first": resample.resize(rings, (64, 64)),
    "means of 4 x 4": resample.downsample(rings, 4),
}
outside = np.hypot(*np.meshgrid(*(np.linspace(-1, 1, 64),) * 2)) > 0.75
for name, picture in coarse.items():
    print(f"{name:20} contrast that is left of the finest rings: {np.std(picture[outside]):.3f}")

# %%
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.7), layout="constrained")
for ax, (title, picture) in zip(axes, {"256 x 256": rings, **coarse}.items(), strict=True):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title, size=10)
    ax.set_axis_off()

# %%
# In a scan the fine stripes are noise and the edges of vessels. Aliased, noise looks like small
# structures, which a vessel filter finds.
#
# The volume at 1 mm
# ------------------
equal = p(volume)
print("voxels (z, y, x):", " x ".join(map(str, equal.shape)))
print(f"mean before {volume.mean():.2f}, after {equal.mean():.2f}")


# %%
# Three sections through the middle, before and after. Before, a voxel is drawn as tall as it is.
def sections(axes, values, steps, **style):
    """Draw the middle slices across each axis; `steps` are the sizes of a voxel in mm."""
    for ax, across in zip(axes, range(3), strict=True):
        rest = [a for a in range(3) if a != across]
        picture = np.take(values, values.shape[across] // 2, across)
        ax.imshow(picture, aspect=steps[rest[0]] / steps[rest[1]], interpolation="nearest", **style)
        ax.set(xticks=[], yticks=[], xlabel="zyx"[rest[1]], ylabel="zyx"[rest[0]])


figure, axes = plt.subplots(2, 3, figsize=(9.6, 6.2), layout="constrained")
grey = {"cmap": "gray", "vmin": 30, "vmax": 170}
sections(axes[0], volume, spacing, **grey)
sections(axes[1], equal, (1, 1, 1), **grey)
axes[0, 0].set_title("2 x 0.5 x 0.5 mm", size=10, loc="left")
axes[1, 0].set_title("1 x 1 x 1 mm", size=10, loc="left")

# %%
# Vessels
# -------
# Frangi's filter looks at the second derivatives around each voxel: along a bright vessel the
# brightness hardly changes, and across it it falls on all sides. So of the three eigenvalues of
# the Hessian one is small and two are strongly negative. Derivatives of a Gaussian of sigma answer
# to vessels about as thick as sigma, so several scales are tried, and the largest answer counts.
scales = [1.0, 1.5, 2.0]  # mm
v = features.plan_features(
    features.frangi, equal.shape, "float32", scales, black_ridges=False, spacing=1.0
)
print(v)

# %%
# A volume has six second derivatives. They share their first passes, and each sweep computes the
# eigenvalues and the answer while the derivatives of a few rows are in the cache: only the
# vesselness is written.
found = v(equal)

# %%
# Maximum projections: for every line of sight the brightest voxel.
figure, axes = plt.subplots(2, 3, figsize=(9.6, 6.4), layout="constrained")
exact = resample.downsample(truth, 2)
pictures = {"scan at 1 mm": equal, "vesselness": found, "vessels as they were drawn": exact}
for column, (title, values) in zip(axes.T, pictures.items(), strict=True):
    low, high = np.percentile(values, (1, 99.9))
    for ax, across in zip(column, (0, 1), strict=True):
        ax.imshow(values.max(across), cmap="gray", vmin=low, vmax=high)
        ax.set(xticks=[], yticks=[], xlabel="x", ylabel="yz"[across])
    column[0].set_title(title, size=10)

# %%
# Millimetres or voxels
# ---------------------
# What would have come out without all this? The same filter on the original voxels, with sigmas of
# as many voxels as there are millimetres in a pixel, is a filter that is four times as long across
# the slices as within them. To judge, each vesselness is compared with the vessels that were
# drawn: of all thresholds the one is taken for which vessels found and drawn overlap best (Dice:
# twice the common part over the sum of both).
drawn = exact > 0.5


def dice(values):
    """Return the largest overlap of any threshold."""
    order = np.argsort(values, axis=None)[::-1]
    hits = np.cumsum(drawn.ravel()[order])
    return float((2 * hits / (np.arange(1, order.size + 1) + drawn.sum())).max())


def at_1_mm(values):
    """Return a vesselness of the original voxels at the places of the new ones."""
    return resample.resample(values, spacing, 1.0)


pixels = [s / 0.5 for s in scales]
blind = features.frangi(volume, pixels, black_ridges=False)
jagged = resample.resample(volume, spacing, 1.0, interpolation="nearest")
ways = {
    "voxels, as if they were cubes": at_1_mm(blind),
    "1 mm, nearest samples": features.frangi(jagged, scales, black_ridges=False),
    "1 mm, smoothed first": found,
}
scores = {name: dice(values) for name, values in ways.items()}
for name, score in scores.items():
    print(f"{name:32} overlap {score:.2f}")
assert scores["1 mm, smoothed first"] == max(scores.values())

# %%
# Filters here also take the spacing themselves: lengths and derivatives are then in millimetres,
# without new samples. But a scale must not be much finer than the samples. The derivative of a
# Gaussian of 1 mm cannot be taken from slices 2 mm apart, and the library says so:
try:
    features.frangi(volume, scales, black_ridges=False, spacing=spacing)
except sep.errors.ArgumentError as error:
    print(textwrap.fill(str(error), 80))

# %%
# What was saved
# --------------
# One sum over all axes would need, for each new voxel, the product of the numbers of weights; passes
# need about their sum. The same holds for derivatives, of which there are six per scale.
outputs = np.prod(equal.shape)
rows = {
    "resampling": (p.multiplications_dense / outputs, p.multiplications / outputs),
    "vesselness": (v.multiplications_dense, v.multiplications),
}
print(f"{'multiplications per voxel':28}{'one sum':>10}{'passes':>10}{'fewer':>8}")
for name, (dense, passes) in rows.items():
    print(f"{name:28}{dense:10,.0f}{passes:10,.0f}{dense / passes:7.0f}x")

# %%
# And by the clock, beside SciPy and scikit-image, which also use passes, but each derivative
# by itself, and which keep all of them in memory:
from scipy import ndimage
from skimage.filters import frangi as scikit_image_frangi


def seconds(job, repeats=3):
    """Return the shortest of a few times."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        took.append(time.perf_counter() - start)
    return min(took)


zoom = np.array(spacing)


def by_scipy():
    """Smooth the axes that shrink, and interpolate by splines of order 3."""
    smooth = ndimage.gaussian_filter(volume, np.maximum(0, (1 / zoom - 1) / 2))
    return ndimage.zoom(smooth, zoom, order=3, mode="reflect", grid_mode=True)


part = equal[:48, :48, :48]
times = {
    "resampling": (seconds(by_scipy), seconds(lambda: p(volume)), "SciPy"),
    "vesselness, 48 x 48 x 48": (
        seconds(lambda: scikit_image_frangi(part, scales, black_ridges=False)),
        seconds(lambda: features.frangi(part, scales, black_ridges=False)),
        "scikit-image",
    ),
}
for name, (theirs, ours, who) in times.items():
    print(f"{name:26} {who} {theirs:.2f} s, here {1000 * ours:.1f} ms: {theirs / ours:.0f} times")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
for ax, title, bars in (
    (axes[0], "multiplications per voxel", rows),
    (axes[1], "seconds", {n.partition(",")[0]: t[:2] for n, t in times.items()}),
):
    places = np.arange(len(bars))
    for shift, colour, label, index in ((-0.2, ACCENT, "before", 0), (0.2, MAIN, "here", 1)):
        ax.bar(places + shift, [b[index] for b in bars.values()], 0.36, color=colour, label=label)
    ax.set_xticks(places, list(bars))
    ax.set(yscale="log", title=title)
    plain_ticks(ax.yaxis)
    ax.spines[["top", "right"]].set_visible(False)
below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1), "ncols": 2}
handles, _ = axes[0].get_legend_handles_labels()
axes[0].legend(handles, ["one sum over all axes", "passes"], frameon=False, **below)
axes[1].legend(handles, ["SciPy, scikit-image", "here"], frameon=False, **below)

# %%
# From file to file
# -----------------
# A scan with its spacing in the header needs no Python. Both commands work in slabs within a memory
# limit, write the new spacing and position into the header, and resume if they are interrupted::
#
#     separable resample scan.nii equal.nii --spacing 1mm --interpolation cubic --explain
#     separable features equal.nii out/ --frangi 1mm,1.5mm,2mm --bright --explain
