"""
2. How far from separable
=========================

Most kernels are not the product of a column and a row. Every kernel is a *sum* of such products,
though, and often the first few are already a close approximation. This lesson shows how many are
needed, how large the error of fewer terms is, and what that means for an image.
"""

# %%
# Singular values
# ---------------
# The kernel is a disk, as in a photograph that is out of focus. Its *singular values* say how much
# each product, or *term*, contributes. The number of singular values above zero is the *rank*.
import sys

import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form works on a smaller picture

disk = sep.kernels.disk(10)
found = sep.spectrum(disk, "yx -> y,x")
print(found)

# %%
# The last column is the error if only that many terms are kept: the size of the difference
# relative to the size of the kernel. Size means the Frobenius norm, the square root of the sum of
# squares.
ax = sep.plot.spectrum(found)

# %%
# The best approximation
# ----------------------
# No other sum of equally many terms is closer: this is the theorem of Eckart and Young (1936). The
# squares of the omitted singular values add up to the square of the error. We check that, and
# compare with a simple guess of the column and row: the sums of the disk along x and y.
best = sep.factorize(disk, "yx -> y,x", rank=1)
values = found.values
size = np.linalg.norm(disk)
print(f"error of the best term              {best.error:.6f}")
print(f"from the omitted singular values    {np.sqrt(np.sum(values[1:] ** 2)) / size:.6f}")

guess = np.outer(disk.sum(axis=1), disk.sum(axis=0)).astype(float)
guess *= np.sum(guess * disk) / np.sum(guess**2)  # the best factor in front
print(f"error of the product of the sums    {np.linalg.norm(disk - guess) / size:.6f}")

# %%
# Term by term
# ------------
# The first term is a soft square. Each further term corrects the corners and the edge. Colours mean the
# same in all lessons: blue is negative, white 0, red positive.
import matplotlib.pyplot as plt
from separable.plot.style import colour_scale

shown = (1, 2, 4, found.rank)
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.9), layout="constrained")
for ax, rank in zip(axes, shown, strict=True):
    some = sep.factorize(disk, "yx -> y,x", rank=rank).dense()
    drawn = ax.imshow(some, cmap="RdBu_r", vmin=-1.2, vmax=1.2)
    terms = "1 term" if rank == 1 else f"{rank} terms"
    ax.set_title(f"{terms}\nerror {found.errors[rank]:.1%}", size=10)
    ax.set_axis_off()
bar = figure.colorbar(drawn, ax=axes, shrink=0.9, label="weight")

# %%
# Ranks of common kernels
# -----------------------
# The columns give the number of terms for an exact result and for errors of 1 % and 0.1 %. Random
# numbers represent a kernel without structure: it has as many terms as rows.
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
# Gaussians are separable if they are aligned with the axes. Rotated by 45 degrees, an elongated
# one needs many terms, but because it is smooth, far fewer than its rank are enough for 1 %. A
# disk is not smooth: its edge needs every term, and 1 % costs as much as an exact result.
#
# Errors in an image
# ------------------
# An error of the kernel becomes an error of the filtered image, and the library gives an upper
# bound for it. For a kernel that differs from the desired one by ``D``:
#
# .. code-block:: none
#
#     |error at any pixel|  ≤  Σ |D| · max |image|
#
# because at worst each weight of D is multiplied by the largest value with the worst sign.
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
# Errors are in grey values (0 to 255). The bound holds for every image, even for the worst
# possible one; the error in a photograph is far smaller.
#
# One line is surprising: five terms are closer to the disk than four, and yet the error in the
# photograph is larger. Most of a photograph is smooth, and in smooth regions only the *sum* of the
# weights matters. It should be 1, and with five terms it happens to differ more. "Closest" depends
# on the norm, which is why the library reports both errors.
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.7), layout="constrained")
axes[0].imshow(exact, cmap="gray", vmin=0, vmax=255)
axes[0].set_title("filtered exactly", size=10)
for ax, rank in zip(axes[1:], (1, 4), strict=True):
    drawn = ax.imshow(pictures[rank], **colour_scale(pictures[rank], pictures[1].max()))
    ax.set_title("difference with " + ("1 term" if rank == 1 else f"{rank} terms"), size=10)
for ax in axes:
    ax.set_axis_off()
bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label="grey values")

# %%
# Choosing the number of terms by a tolerance
# -------------------------------------------
# You need not count terms. Give the allowed error, relative to the largest value that the result
# can have, and :func:`separable.plan` finds the fastest method within it. Without `tol` the result
# is exact: nothing is dropped unless you ask for it.
turned = kernels["Gaussian, sigmas 6 and 2, at 45 degrees"]
for tol in (None, 1e-3, 1e-2):
    p = sep.plan(turned, shape=photo.shape, dtype="float32", tol=tol)
    wanted = "exact" if tol is None else f"{tol:g}"
    cost = f"{p.chosen.multiplications:4.0f} multiplications per pixel"
    time = f"{1e3 * p.chosen.seconds:.1f} ms predicted"
    print(f"allowed: {wanted:7}{p.chosen.title:22}{cost}, {time}, error at most {p.bound:.1e}")

# %%
# This tolerance refers to the worst pixel of the worst image, so it needs a few more terms than
# the same number as a Frobenius error. And the fastest method need not have the fewest multiplications:
# :ref:`lesson 5 <sphx_glr_lessons_built_lesson_05_passes_fft_or_recursion.py>` shows why.
