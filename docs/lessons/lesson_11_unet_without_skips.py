"""
11. A U-Net with and without skip connections
=============================================

A U-Net labels every pixel of an image. It goes down to a coarse grid, where a few pixels represent
the whole picture, and up again. Skip connections pass the finer images before each step down to
the corresponding step up. To see what they are for, a network with them and one without learn the
same task.
"""

# %%
# Cells in noise
# --------------
# The images are synthetic, so the truth is known: cells with wavy outlines, in noise.
import sys

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy import ndimage
from torch import nn

import separable as sep
from separable.nn.models import UNet

short = "--short" in sys.argv  # the form that takes seconds: less training, worse networks
torch.set_num_threads(1)  # networks this small gain nothing from a second one
SIZE, TRAIN, TEST, STEPS = (32, 32, 8, 12) if short else (64, 192, 32, 300)
SEEDS = (0, 1) if short else (0, 1, 2)


def scene(rng):
    """Return an image and the mask of its cells."""
    y, x = np.mgrid[:SIZE, :SIZE]
    mask = np.zeros((SIZE, SIZE), bool)
    for _ in range(rng.integers(2, 5)):
        dy, dx = (at - rng.uniform(0.15, 0.85) * SIZE for at in (y, x))
        waves, turn = rng.integers(3, 7), rng.uniform(0, 2 * np.pi)
        rim = 1 + 0.25 * np.cos(waves * np.arctan2(dy, dx) + turn)
        mask |= np.hypot(dy, dx) < rng.uniform(0.07, 0.15) * SIZE * rim
    return (mask + rng.normal(0, 0.5, mask.shape)).astype("float32"), mask


rng = np.random.default_rng(0)
images, masks = (
    torch.from_numpy(np.stack(part).astype("float32"))[:, None]
    for part in zip(*(scene(rng) for _ in range(TRAIN + TEST)), strict=True)
)
print(f"{TRAIN} images for training, {TEST} for the test, {SIZE} x {SIZE} pixels")
print(f"{100 * masks.mean():.0f} % of the pixels are in cells")

# %%
# Two networks
# ------------
# Both are separable, with the same levels. Without skip connections, all information about a
# position has to pass through the coarsest grid:
WIDTHS = (8, 16, 32, 64)
nets = {"with skips": [], "without": []}
for name, trained in nets.items():
    for seed in SEEDS:
        torch.manual_seed(seed)
        skips = name == "with skips"
        trained.append(UNet(2, widths=WIDTHS, classes=1, norm="group", skips=skips))
    total = sep.nn.ledger(trained[0], (1, 1, SIZE, SIZE), backward=False).total
    print(f"{name:10} {total.multiplications:10,} multiplications {total.parameters:7,} parameters")
coarse = SIZE // 2 ** (len(WIDTHS) - 1)
print(f"the coarsest grid has {coarse} x {coarse} places for {SIZE} x {SIZE} pixels")

# %%
# The skip connections themselves need no multiplications. The layers that receive them have more
# input channels, which explains the difference above. A dense twin with skip connections, for
# comparison:
skipping = nets["with skips"][0]
dense = sep.nn.ledger(skipping.twin(), (1, 1, SIZE, SIZE), backward=False).total
fewer = (
    dense.multiplications
    / sep.nn.ledger(skipping, (1, 1, SIZE, SIZE), backward=False).total.multiplications
)
print(f"dense      {dense.multiplications:10,} multiplications, {fewer:.1f} times as many")


# %%
# Training
# --------
# The same images in the same order for both, with several seeds, because a single training is not
# conclusive.
def learn(net, seed):
    """Train a network; return its losses."""
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    chance = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(STEPS):
        batch = torch.randint(TRAIN, (8,), generator=chance)
        loss = nn.functional.binary_cross_entropy_with_logits(net(images[batch]), masks[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    net.eval()
    return losses


for name, trained in nets.items():
    losses = np.mean([learn(net, seed) for net, seed in zip(trained, SEEDS, strict=True)], axis=0)
    print(f"{name:10} loss {losses[0]:.3f} at first, {np.mean(losses[-10:]):.3f} at last")

# %%
# Where the errors are
# --------------------
# The Dice coefficient, twice the overlap divided by the sum of both areas, is 1 for a perfect
# mask:
truth = masks[TRAIN:, 0].numpy() > 0.5
found = {}  # of the first seed
for name, trained in nets.items():
    dice = []
    for net in trained:
        with torch.no_grad():
            mask = net(images[TRAIN:])[:, 0].numpy() > 0
        found.setdefault(name, mask)
        dice.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    spread = f"{np.mean(dice):.3f} ± {np.std(dice, ddof=1):.3f}"
    print(f"{name:10} Dice {spread} ({len(SEEDS)} seeds)")

# %%
# A single number does not show where the errors are. So we measure the distance of each pixel from
# the outline of a cell, and count the wrong pixels at each distance, here and below for the
# networks with the first seed:
inside, outside = (
    np.stack([ndimage.distance_transform_edt(m) for m in part]) for part in (truth, ~truth)
)
distance = np.where(truth, inside, outside)  # 1 for the pixels at the rim
BANDS = ((0, 1), (1, 2), (2, 3), (3, 5), (5, 100))
shares = {
    name: [(mask != truth)[(distance > a) & (distance <= b)].mean() for a, b in BANDS]
    for name, mask in found.items()
}
texts = [f"up to {b}" for _, b in BANDS[:-1]] + [f"beyond {BANDS[-1][0]}"]
print("pixels from the rim:", "  ".join(f"{text:>8}" for text in texts))
for name, share in shares.items():
    print(f"{name:20}", "  ".join(f"{100 * s:6.1f} %" for s in share))
first, last = (100 * (shares["without"][at] - shares["with skips"][at]) for at in (0, -1))
print(f"what skips save: {first:.1f} points at the rim, {round(last, 1) + 0.0:.1f} far from it")

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for shift, (name, colour) in zip(
    (-0.2, 0.2), (("with skips", "#1f5fa8"), ("without", "#c2501b")), strict=True
):
    at = np.arange(len(BANDS)) + shift
    ax.bar(at, [100 * s for s in shares[name]], width=0.38, color=colour, label=name)
ax.set_xticks(range(len(BANDS)), texts)
ax.set(xlabel="distance from the rim (pixels)", ylabel="wrong pixels (%)")
ax.legend(frameon=False)

# %%
# Three test images. The last two columns show the cells found by each network, with the true
# outlines:
fig, axes = plt.subplots(3, 4, figsize=(8.6, 6.6), layout="constrained")
for number, row in enumerate(axes):
    panels = {"image": images[TRAIN + number, 0].numpy(), "truth": truth[number]}
    panels |= {name: mask[number] for name, mask in found.items()}
    for ax, (title, panel) in zip(row, panels.items(), strict=True):
        ax.imshow(panel, cmap="gray" if title == "image" else "Blues")
        if title in found:
            ax.contour(truth[number], [0.5], colors="#c2501b", linewidths=1.2)
        if not number:
            ax.set_title(title, size=10)
        ax.set_axis_off()

# %%
# Precision of the outlines
# -------------------------
# The coarsest grid represents the presence of a cell; the position of its outline between two
# points of that grid would have to be encoded in the channels and decoded again on the way up.
# Skip connections pass on the fine grid instead. The distance of the outlines found from the true
# ones, without the worst tenth:
for name, mask in found.items():
    rims = []
    for guess, wanted in zip(mask, truth, strict=True):
        edge = guess & ~ndimage.binary_erosion(guess)
        true_edge = wanted & ~ndimage.binary_erosion(wanted)
        rims.append(ndimage.distance_transform_edt(~true_edge)[edge])
    off = np.concatenate(rims)
    text = f"{np.quantile(off, 0.9):.1f} pixels" if off.size else "no rim found"
    print(f"{name:10} {text}")
