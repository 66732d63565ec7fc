"""
1. Separable kernels
====================

A filter moves a small array of weights, the *kernel*, over an image and computes the sum of the
products at each position. Some kernels are the product of a column and a row. Filtering with the
column first and with the row afterwards then gives the same result with fewer multiplications.
"""

# %%
# A textbook kernel
# -----------------
# Nine weights, or a column of three and a row of three?
import numpy as np

import separable as sep

kernel = np.array([[3, 6, 9], [4, 8, 12], [5, 10, 15]])
factors = sep.factorize(kernel, "yx -> y,x")
print(factors)

# %%
# The pattern ``yx -> y,x`` means: an array with axes y and x is written as one factor with axis y
# and one with axis x. The factors are integers, because the kernel is. Their product is the
# kernel:
column, row = factors.terms[0]
print(column[:, None] * row[None, :])
assert np.array_equal(factors.dense(), kernel)

# %%
# The factors drawn as strips, with their product:
sep.plot.factors(factors)

# %%
# Sobel's kernel
# --------------
# The kernel that detects vertical edges smooths along y and differentiates along x, as its factors
# show.
sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
print(sep.factorize(sobel, "yx -> y,x"))

# %%
# On a photograph, one pass after the other gives exactly the same result as the nine weights:
from scipy import ndimage
from skimage import data

photo = data.camera().astype(np.int32)
dense = ndimage.correlate(photo, sobel)
smoothed = ndimage.correlate1d(photo, [1, 2, 1], axis=0)
passes = ndimage.correlate1d(smoothed, [-1, 0, 1], axis=1)
print("largest difference:", np.abs(dense - passes).max())

# %%
import matplotlib.pyplot as plt
from separable.plot.style import COLOURS, colour_scale

figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.3), layout="constrained")
pictures = (photo, smoothed, passes)
titles = ("photograph", "after the column [1 2 1]", "after the row [-1 0 1]")
for ax, picture, title in zip(axes, pictures, titles, strict=True):
    limit = np.percentile(np.abs(picture), 99)
    grey = {"cmap": "gray", "vmin": 0, "vmax": limit}
    drawn = ax.imshow(picture, **(colour_scale(picture, limit) if picture.min() < 0 else grey))
    ax.set_title(title, size=10)
    ax.set_axis_off()
bar = figure.colorbar(drawn, ax=axes, shrink=0.9, label=COLOURS)

# %%
# Multiplications
# ---------------
# K by K weights need K² multiplications per pixel, a column and a row 2 K: a ratio of K / 2.
for size in (3, 7, 31):
    k = sep.kernels.gaussian(size / 6, radius=size // 2, ndim=2)
    dense_count, separable_count = k.dense().size, k.parameters
    print(
        f"{size:2} x {size:<2}  {dense_count:4} -> {separable_count:3}   {dense_count / separable_count:.1f} times fewer"
    )

# %%
# A Gaussian is separable in any number of dimensions. It is the only rotationally symmetric kernel
# that is.
print(sep.kernels.gaussian(1, radius=3, ndim=3))

# %%
# A kernel that is not separable
# ------------------------------
# Most kernels are not separable. The Laplacian is an example: it needs two terms.
laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
print(sep.spectrum(laplacian, "yx -> y,x"))

# %%
# Two terms are a column times a row plus another column times a row: 12 multiplications instead of
# the 5 weights that are not zero. The factorisation is exact, but not worthwhile.
# :func:`separable.plan` says so before anything is run.
print(sep.plan(laplacian, shape=photo.shape, dtype="float32"))
