"""
3. Three dimensions
===================

In a volume a kernel of size K has K³ weights, and three 1-D factors have 3 K. The saving of K² / 3
grows so fast that filters which would take too long become fast enough not to be noticed.
"""

# %%
# An MRI volume
# -------------
# A small magnetic resonance volume of a head that comes with NiBabel. Its voxels are a little
# thicker than wide, as in most scans. We put the slices first: the axes are z, y, x.
import sys
from pathlib import Path

import nibabel
import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form takes every other voxel of a slice

scan = nibabel.load(Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz")
volume = np.ascontiguousarray(scan.get_fdata(dtype="float32")[..., 0].T)
spacing = scan.header.get_zooms()[2::-1]
print("voxels (z, y, x):", volume.shape, " size in mm:", [f"{s:.1f}" for s in spacing])
if short:
    volume, spacing = volume[:, ::2, ::2].copy(), (spacing[0], 2 * spacing[1], 2 * spacing[2])

# %%
# The saving of K² / 3
# --------------------
# Multiplications per voxel, compared with those per pixel, where the saving is K / 2.
print("  K     K x K    2 K   saving     K x K x K    3 K   saving    K²/3")
for size in (3, 5, 7, 10, 15, 31):
    plane, passes = sep.cost.dense_filter((size,) * 2), sep.cost.separable_filter((size,) * 2)
    cube, strips = sep.cost.dense_filter((size,) * 3), sep.cost.separable_filter((size,) * 3)
    two = plane.multiplications / passes.multiplications
    three = cube.multiplications / strips.multiplications
    print(
        f"{size:3}{plane.multiplications:10,}{passes.multiplications:7}{two:9.1f}"
        f"{cube.multiplications:14,}{strips.multiplications:7}{three:9.1f}{size**2 / 3:8.1f}"
    )

# %%
# The same result
# ---------------
# A Gaussian of 7 x 7 x 7 weights, first with all of them, then as three passes.
import time

from scipy import ndimage

gaussian = sep.kernels.gaussian(1, ndim=3, radius=3)
dense = gaussian.dense()
print(gaussian)


def three_passes(image, strips):
    for axis, strip in enumerate(strips):
        image = ndimage.convolve1d(image, strip, axis=axis)
    return image


def seconds(job, repeats=3):
    """Return the shortest of a few times."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        took.append(time.perf_counter() - start)
    return min(took)


with_all = ndimage.convolve(volume, dense)
passes = three_passes(volume, gaussian.terms[0])
print(f"\nlargest difference: {np.abs(with_all - passes).max():.1e} of {with_all.max():.0f}")
print(f"multiplications: {dense.size} -> {gaussian.parameters}, ", end="")
print(f"{dense.size / gaussian.parameters:.1f} times fewer")

# %%
# The same with this library, from the *dense* kernel, without saying that it is a Gaussian:
p = sep.plan(dense, shape=volume.shape, dtype="float32")
print(p)
print("\nlargest difference:", f"{np.abs(p(volume) - with_all).max():.1e}")

# %%
# Millimetres
# -----------
# A Gaussian that is isotropic in millimetres is not isotropic in voxels. Kernels accept the
# spacing; sigma is then in millimetres, and each axis gets a factor of its own length. The kernel
# is still separable.
blur = sep.kernels.gaussian(3, ndim=3, spacing=spacing)
print("sigma 3 mm, in voxels:", [f"{3 / s:.2f}" for s in spacing])
print("factors with", [len(strip) for strip in blur.terms[0]], "weights")
smooth = sep.convolve(volume, blur)

# %%
# Kernels that are not separable
# ------------------------------
# A ball is not the product of three factors, but a sum of such products. With three axes this sum
# is not unique, and the library finds one by two factorisations: first z from yx, then y from x.
# The Laplacian of a Gaussian is by definition a sum of three products: a second derivative along
# one axis and a Gaussian along the two others. The catalogue stores it in this form.
ball = sep.kernels.ball(3)
log = sep.kernels.laplacian_of_gaussian(1.2, ndim=3, radius=4)
print(f"{'':24}{'weights':>8}{'terms':>7}   multiplications, chosen method")
for name, kernel in (("ball of radius 3", ball / ball.sum()), ("Laplacian of Gaussian", log)):
    rank = getattr(kernel, "rank", None) or sep.spectrum(kernel, "zyx -> z,y,x").rank
    weights = kernel.dense() if isinstance(kernel, sep.Factors) else kernel
    chosen = sep.plan(kernel, shape=volume.shape, dtype="float32").chosen
    way = f"{chosen.multiplications:6.0f}, {chosen.title}"
    print(f"{name:24}{weights.size:8}{rank:7}   {way}")
edges = sep.convolve(volume, log)

# %%
# The middle slice, and a section across all slices:
import matplotlib.pyplot as plt
from separable.plot.style import COLOURS, colour_scale

depth, height, width = volume.shape
tall = height * spacing[1]
thin = depth * spacing[0]
figure, axes = plt.subplots(
    2, 3, figsize=(9.6, 3.8), layout="constrained", height_ratios=(tall, thin)
)
pictures = {"the head": volume, "Gaussian, sigma 3 mm": smooth, "Laplacian of Gaussian": edges}
for column, (title, values) in zip(axes.T, pictures.items(), strict=True):
    limit = np.percentile(np.abs(values), 99)
    style = {"cmap": "gray", "vmin": 0, "vmax": limit}
    if title.startswith("Laplacian"):
        style = colour_scale(values, limit)
    drawn = column[0].imshow(values[depth // 2, ::-1], aspect=spacing[1] / spacing[2], **style)
    column[0].set_title(title, size=10)
    column[1].imshow(values[::-1, height // 2], aspect=spacing[0] / spacing[2], **style)
    for ax in column:
        ax.set_axis_off()
bar = figure.colorbar(drawn, ax=axes, shrink=0.9, label=COLOURS)

# %%
# The saving in multiplications and in time
# -----------------------------------------
# SciPy's convolution with all weights, compared with three of its passes.
part = np.ascontiguousarray(volume[:20, :32, :32] if short else volume[:, :48, :48])
sizes = (3, 5, 7) if short else (3, 5, 7, 9, 11)
counted, timed = [], []
for size in sizes:
    kernel = sep.kernels.gaussian(size / 6, ndim=3, radius=size // 2)
    weights, strips = kernel.dense(), kernel.terms[0]
    whole = seconds(lambda: ndimage.convolve(part, weights))  # noqa: B023
    passes = seconds(lambda: three_passes(part, strips))  # noqa: B023
    counted.append(weights.size / kernel.parameters)
    timed.append(whole / passes)
    print(f"K = {size:2}: {counted[-1]:5.1f} times fewer, {timed[-1]:6.1f} times faster here")

# %%
# Multiplications and time need not agree. Passes read and write the whole volume three times,
# however little they multiply, which limits them for small kernels. And a multiplication does not
# take equally long in both: a pass runs along rows of memory, while SciPy's dense filter visits
# each neighbourhood by a list of offsets.
from separable.plot.style import ACCENT, MAIN

figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
ax.plot(sizes, counted, "o-", color=MAIN, label="fewer multiplications: K² / 3")
ax.plot(sizes, timed, "D--", color=ACCENT, label="faster, measured here")
ax.set(xlabel="size of the kernel, K", ylabel="dense over separable", xticks=sizes, yscale="log")
ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n < 1.2 * max(*counted, *timed)]
ax.set_yticks(ticks, ticks)
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)
legend = ax.legend(frameon=False)
