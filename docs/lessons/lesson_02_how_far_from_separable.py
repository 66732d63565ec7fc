"""
2. How far from separable
=========================

Most kernels are not the product of a column and a row. Every kernel is a *sum* of such products,
though, and often the first few already come close. This lesson asks how many it takes, what a
smaller number costs in accuracy, and what that means for an image.
"""

# %%
# The spectrum
# ------------
# A disk, as in a photograph out of focus. Its *singular values* say how much each product, or
# *term*, contributes; the number of those above zero is the *rank*.
import sys

import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form works on a smaller picture

disk = sep.kernels.disk(10)
found = sep.spectrum(disk, "yx -> y,x")
print(found)

# %%
# The last column is what is missing when only so many terms are kept: the size of the difference,
# relative to the size of the kernel. Size is meant in the sense of Frobenius, the root of the sum
# of squares.
ax = sep.plot.spectrum(found)

# %%
# The best there is
# -----------------
# No other sum of so many terms comes closer: this is what Eckart and Young proved in 1936. The
# squares of the singular values left out add up to the square of the error. Let us see whether
# they do, and whether we can guess a better column and row: the disk's own sums along x and y.
best = sep.factorize(disk, "yx -> y,x", rank=1)
values = found.values
size = np.linalg.norm(disk)
print(f"error of the best term              {best.error:.6f}")
print(f"from the values that are left out   {np.sqrt(np.sum(values[1:] ** 2)) / size:.6f}")

guess = np.outer(disk.sum(axis=1), disk.sum(axis=0)).astype(float)
guess *= np.sum(guess * disk) / np.sum(guess**2)  # the best factor in front
print(f"error of the product of the sums    {np.linalg.norm(disk - guess) / size:.6f}")

# %%
# Term by term
# ------------
# The first term is a soft square. Each further one corrects the corners and the edge.
import matplotlib.pyplot as plt

shown = (1, 2, 4, found.rank)
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.9), layout="constrained")
for ax, rank in zip(axes, shown, strict=True):
    ax.imshow(sep.factorize(disk, "yx -> y,x", rank=rank).dense(), "RdBu_r", vmin=-1.2, vmax=1.2)
    terms = "1 term" if rank == 1 else f"{rank} terms"
    ax.set_title(f"{terms}\nerror {found.errors[rank]:.1%}", size=10)
    ax.set_axis_off()

# %%
# What ranks are like
# -------------------
# Two for each column: the terms for an exact result, and for an error of 1 %. Random numbers stand
# for any kernel without a pattern: as many terms as it has rows.
rng = np.random.default_rng(0)
along = np.arange(-24, 25)
y, x = np.meshgrid(along, along, indexing="ij")
up, down = (y + x) / np.sqrt(2), (y - x) / np.sqrt(2)
kernels = {
    "Gaussian, sigma 3": sep.kernels.gaussian(3).dense(),
    "Laplacian of Gaussian, sigma 3": sep.kernels.laplacian_of_gaussian(3).dense(),
    "Gabor, 30 degrees": sep.kernels.gabor(8, np.pi / 6).dense(),
    **{f"disk of radius {radius}": sep.kernels.disk(radius) for radius in (5, 10, 20, 40)},
    "Gaussian, sigmas 6 and 2, at 45 degrees": np.exp(-(up**2) / 72 - down**2 / 8),
    "random numbers": rng.standard_normal((49, 49)),
}
print(f"{'':41}{'size':>7}{'exact':>8}{'1 %':>6}{'0.1 %':>7}")
for name, kernel in kernels.items():
    s = sep.spectrum(kernel, "yx -> y,x")
    width = f"{kernel.shape[0]}x{kernel.shape[1]}"
    print(f"{name:41}{width:>7}{s.rank:8}{s.rank_for(0.01):6}{s.rank_for(0.001):7}")

# %%
# Gaussians come apart as long as they lie along the axes. Turned by 45 degrees, a long one takes
# many terms; it is smooth, so that far fewer than its rank are enough for 1 %. A disk is not
# smooth: its edge needs every term, and 1 % is as dear as exact.
#
# In an image
# -----------
# An error of the kernel becomes an error of the filtered image, and the library promises how large
# it can be at most. For a kernel that differs from the wanted one by ``D``:
#
# .. code-block:: none
#
#     |error at any pixel|  ≤  Σ |D| · max |image|
#
# because each pixel is at worst multiplied by the largest value with the worst sign.
# :attr:`separable.Factors.bound` is that sum, relative to the sum of the kernel.
from skimage import data

photo = data.camera().astype(np.float32)[:: 2 if short else 1, :: 2 if short else 1]
blur = disk / disk.sum()
exact = sep.convolve(photo, blur)
print("terms   sum of weights   bound on the error   largest error   typical error")
pictures = {}
for rank in (1, 2, 3, 4, 5, 6, 7):
    factors = sep.factorize(blur, "yx -> y,x", rank=rank)
    difference = np.abs(sep.convolve(photo, factors) - exact)
    bound = factors.bound * np.abs(blur).sum() * np.abs(photo).max()
    assert difference.max() <= bound + 1e-3  # float32 rounds
    typical = np.sqrt(np.mean(difference**2))
    weights = factors.dense().sum()
    print(f"{rank:5}{weights:17.4f}{bound:21.3f}{difference.max():16.3f}{typical:16.3f}")
    pictures[rank] = difference

# %%
# Errors are in grey values, of which a photograph has 0 to 255. The bound holds for every image,
# even for one made to be worst; a photograph stays far below it.
#
# One line is odd: five terms are closer to the disk than four, and still the photograph comes out
# worse. Most of a photograph is smooth, and a smooth place only feels the *sum* of the weights. That
# should be 1, and with five terms it happens to be further off. "Closest" depends on what one
# measures, which is why the library reports both errors.
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.7), layout="constrained")
axes[0].imshow(exact, cmap="gray", vmin=0, vmax=255)
axes[0].set_title("filtered exactly", size=10)
for ax, rank in zip(axes[1:], (1, 4), strict=True):
    drawn = ax.imshow(pictures[rank], cmap="Blues", vmin=0, vmax=pictures[1].max())
    ax.set_title("difference with " + ("1 term" if rank == 1 else f"{rank} terms"), size=10)
for ax in axes:
    ax.set_axis_off()
bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label="grey values")

# %%
# Let the tolerance choose
# ------------------------
# Nobody needs to count terms. Say which error is allowed, relative to the largest value that the
# image can give, and :func:`separable.plan` looks for the cheapest way within it. Without `tol`
# the result is exact: nothing is dropped unless you ask.
turned = kernels["Gaussian, sigmas 6 and 2, at 45 degrees"]
for tol in (None, 1e-3, 1e-2):
    p = sep.plan(turned, shape=photo.shape, dtype="float32", tol=tol)
    wanted = "exact" if tol is None else f"{tol:g}"
    cost = f"{p.chosen.multiplications:.0f} multiplications a pixel"
    print(f"wanted: {wanted:7}{p.chosen.title:15}{cost}, error at most {p.bound:.1e}")

# %%
# This tolerance is about the worst pixel of the worst image, so it takes a few more terms than the
# same number as an error in the sense of Frobenius.
