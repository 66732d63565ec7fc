"""
4. Hyperspectral cubes
======================

A hyperspectral camera records not three colours but a hundred, a whole spectrum at each pixel. One
axis of such a cube is the wavelength; the two others are space. Here it is useful to factorise a
kernel into *two* factors, a spectrum and a small image: ``lyx -> l,yx``.
"""

# %%
# A synthetic cube
# ----------------
# We generate a cube, so that its content is known. It has three materials with typical spectra:
# the reflectance of soil rises slowly, that of leaves jumps up in the near infrared, and a mineral
# has a narrow *absorption* at 2.2 micrometres, as clay has. The shares of the materials change
# over the ground; sun and shade scale whole spectra; every band has noise.
import sys

import matplotlib.pyplot as plt
import numpy as np

import separable as sep
from separable.plot.style import ACCENT, INK, MAIN, colour_scale

short = "--short" in sys.argv  # the short form takes a smaller ground
side, bands = (64 if short else 192), 96
rng = np.random.default_rng(4)

light = np.linspace(0.4, 2.5, bands)  # micrometres


def dip(center, width, depth):
    return 1 - depth * np.exp(-0.5 * ((light - center) / width) ** 2)


soil = (0.15 + 0.25 * (1 - np.exp(-light))) * dip(1.4, 0.04, 0.1) * dip(1.9, 0.05, 0.2)
jump = 1 / (1 + np.exp(-(light - 0.72) / 0.02))
leaves = (0.05 + 0.45 * jump) * np.exp(-0.5 * (light - 0.7)) * dip(1.45, 0.1, 0.5)
leaves *= dip(1.94, 0.12, 0.6)
mineral = (0.35 + 0.1 * (1 - np.exp(-light))) * dip(2.2, 0.04, 0.35) * dip(1.4, 0.03, 0.15)
spectra = {"soil": soil, "leaves": leaves, "mineral": mineral}


def smooth_noise(sigma):
    field = sep.ndimage.gaussian_filter(rng.standard_normal((side, side)), sigma, mode="wrap")
    return field / field.std()


shares = np.exp(2 * np.stack([smooth_noise(side / 16) for _ in spectra]))
shares /= shares.sum(axis=0)
spots = sep.kernels.disk(3)
shares[2] *= 0.3  # little of the mineral ...
for y, x in rng.integers(8, side - 8, (side // 4, 2)):  # ... but for some round outcrops
    shares[2, y - 3 : y + 4, x - 3 : x + 4] += 2 * spots
shares /= shares.sum(axis=0)
sun = np.exp(0.2 * smooth_noise(side / 24))
cube = np.einsum("ml,myx->lyx", np.stack(list(spectra.values())), shares) * sun
cube = (cube + rng.normal(0, 0.05, cube.shape)).astype(np.float32)
print("bands, rows, columns:", cube.shape, f" {cube.nbytes / 2**20:.1f} MiB")

# %%
names = {"soil": (INK, ":"), "leaves": (MAIN, "--"), "mineral": (ACCENT, "-")}
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", width_ratios=(1.6, 1))
for name, (colour, dashes) in names.items():
    axes[0].plot(light, spectra[name], dashes, color=colour, label=name)
axes[0].plot(light, cube[:, side // 2, side // 2], color="#9a9aa2", lw=0.7, label="one pixel")
axes[0].set(xlabel="wavelength (micrometres)", ylabel="reflected", ylim=(0, 0.9))
axes[0].legend(frameon=False, ncols=2, loc="upper left")
axes[0].spines[["top", "right"]].set_visible(False)
red, green, blue = (np.argmin(np.abs(light - w)) for w in (0.65, 0.55, 0.45))
seen = cube[[red, green, blue]].transpose(1, 2, 0)
seen = np.clip(seen / np.percentile(seen, 99.5), 0, 1)
axes[1].imshow(seen)
axes[1].set_title("as the eye would see it", size=10)
axes[1].set_axis_off()

# %%
# A kernel that detects a mineral
# -------------------------------
# Along the spectrum: the shape of the absorption, minus its mean and its slope, so that neither
# brightness nor a reddish ground matters. In space: a disk of the size of an outcrop. The kernel
# is their product.
near = np.arange(-6, 7)
width = 0.04 / (light[1] - light[0])
band_filter = -np.exp(-0.5 * (near / width) ** 2)
band_filter -= np.polyval(np.polyfit(near, band_filter, 1), near)
band_filter /= np.linalg.norm(band_filter)
ground_filter = spots / spots.sum()
kernel = band_filter[:, None, None] * ground_filter
print("kernel:", kernel.shape, "=", kernel.size, "weights")
factors = sep.factorize(kernel, "lyx -> l,yx")
print(factors)

# %%
ax = sep.plot.factors(factors)

# %%
# Two factors are the right choice here. A disk is not the product of rows and columns, so three
# 1-D factors need as many terms as the rank of the disk:
print(f"l,yx : {sep.spectrum(kernel, 'lyx -> l,yx').rank} term")
print(f"l,y,x: {sep.spectrum(kernel, 'lyx -> l,y,x').rank} terms")

# %%
# Either can be faster. The plan considers both, given only the dense kernel:
p = sep.plan(kernel, shape=cube.shape, dtype="float32", operation="correlate")
print(p)

# %%
# "Partial" is ``l,yx``: the spectrum as a pass, the spatial factor as a small image. In
# multiplications:
in_two = band_filter.size + ground_filter.size
print(f"dense {kernel.size}, in two {in_two}: {kernel.size / in_two:.1f} times fewer")

# %%
# The same computed step by step, to see that nothing else happens:
found = p(cube)
by_hand = sep.correlate(cube, band_filter, axes=0)
by_hand = sep.correlate(by_hand, ground_filter, axes=(1, 2))
print(f"largest difference: {np.abs(found - by_hand).max():.1e} of {np.abs(found).max():.3f}")

# %%
# Detection
# ---------
# The response at the band of the absorption, first with the spectral filter alone, then with both,
# beside the true shares. The number is the correlation with the truth. Blue is negative, red positive.
at = np.argmin(np.abs(light - 2.2))
alone = sep.correlate(cube, band_filter, axes=0)[at]
answers = {"spectrum alone": alone, "spectrum and ground": found[at]}
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), layout="constrained")
for ax, (title, answer) in zip(axes, answers.items(), strict=False):
    agreement = np.corrcoef(answer.ravel(), shares[2].ravel())[0, 1]
    print(f"{title:20} {agreement:.3f}")
    drawn = ax.imshow(answer, **colour_scale(answer, np.percentile(answer, 99.5)))
    figure.colorbar(drawn, ax=ax, shrink=0.7)
    ax.set_title(f"{title}: {agreement:.2f}", size=10)
drawn = axes[2].imshow(shares[2], **colour_scale(shares[2]))
bar = figure.colorbar(drawn, ax=axes[2], shrink=0.7)
axes[2].set_title("the mineral's share", size=10)
for ax in axes:
    ax.set_axis_off()

# %%
# When the kernel of a cube is not separable
# ------------------------------------------
# A product means: the same spatial kernel at every wavelength. A lens that focuses red and blue at
# different depths blurs each band differently, and its kernel is not a product. The number of
# terms depends on how different the bands are:
along = np.arange(-6, 7)
square = along[:, None] ** 2 + along**2
print("blur grows by   terms: exact    1 %   0.1 %   error of one term")
for growth in (0.0, 0.1, 0.5, 1.0):
    sigma = 1.5 * (1 + growth * (near + 6) / 12)
    lens = np.exp(-square / (2 * sigma[:, None, None] ** 2)) / sigma[:, None, None] ** 2
    s = sep.spectrum(np.abs(band_filter)[:, None, None] * lens, "lyx -> l,yx")
    one = f"{s.errors[1]:.1%}"
    print(f"{growth:13.0%}{s.rank:15}{s.rank_for(0.01):7}{s.rank_for(0.001):8}{one:>20}")

# %%
# Even if the blur doubles from the first band to the last, very few terms are enough for 1 %,
# because the change is smooth.
#
# As a layer
# ----------
# Networks for such cubes do the same with learned weights and channels:
# :class:`separable.nn.SpatialSpectralConv3d`. From 8 channels to 16, with seven bands and 3 x 3
# pixels:
layer = sep.nn.SpatialSpectralConv3d(8, 16, (7, 3, 3))
dense, parts = layer.spec.multiplications, layer.multiplications
print(f"multiplications per position: {dense:,} dense, {parts:,} in two factors")
