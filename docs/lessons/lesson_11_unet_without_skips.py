"""
11. A U-Net with and without skip connections
=============================================

A U-Net labels every pixel of an image. It goes down to a coarse grid, where a few pixels represent
the whole picture, and up again. Skip connections pass the finer images before each step down to
the corresponding step up. A question that is often asked: if the convolutions are separable, are
the skip connections still needed, or does one replace the other? We train all four combinations,
dense or separable, with skips or without, and look where their errors are.
"""

# %%
# Tumours in noise
# ----------------
# The images are synthetic, so the truth is known: tumours with wavy rims, in noise.
import sys

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy import ndimage
from torch import nn

import separable as sep
from separable.nn.models import UNet
from separable.plot.style import ACCENT, MAIN

short = "--short" in sys.argv  # the form that takes seconds: less training, worse networks
torch.set_num_threads(1)  # networks this small gain nothing from a second one
SIZE, TRAIN, TEST, STEPS = (32, 32, 8, 8) if short else (64, 192, 48, 260)
SEEDS = (0, 1) if short else (0, 1, 2)


def scene(rng):
    """Return an image and the mask of its tumours."""
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
print(f"{100 * masks.mean():.0f} % of the pixels are in tumours")

# %%
# Four networks
# -------------
# All have the same levels. Without skip connections, all information about a position has to pass
# through the coarsest grid:
WIDTHS = (8, 16, 32, 64)
CASES = {
    "separable, skips": {"dense": False, "skips": True},
    "separable, none": {"dense": False, "skips": False},
    "dense, skips": {"dense": True, "skips": True},
    "dense, none": {"dense": True, "skips": False},
}


def network(case, seed):
    """Return an untrained network."""
    torch.manual_seed(seed)
    net = UNet(2, widths=WIDTHS, classes=1, norm="group", **CASES[case])
    share = masks[:TRAIN].mean()
    with torch.no_grad():  # at first every pixel is in a tumour with the same, usual probability
        net.head.pointwise.weight.zero_()
        net.head.pointwise.bias.fill_(torch.log(share / (1 - share)))
    return net


totals = {}
for case in CASES:
    total = sep.nn.ledger(network(case, 0), (1, 1, SIZE, SIZE), backward=False).total
    totals[case] = total.multiplications
    print(f"{case:17}{total.multiplications:11,} multiplications {total.parameters:8,} parameters")
fewer = totals["dense, skips"] / totals["separable, skips"]
print(f"dense with skips: {fewer:.1f} times as many multiplications as separable")
coarse = SIZE // 2 ** (len(WIDTHS) - 1)
print(f"the coarsest grid has {coarse} x {coarse} places for {SIZE} x {SIZE} pixels")

# %%
# The skip connections themselves need no multiplications. The layers that receive them have more
# input channels, which explains the difference.
#
# Two losses
# ----------
# The usual loss of masks is the cross-entropy, which counts every pixel alike, plus one minus a soft
# Dice coefficient (see below), because so few pixels are in tumours. A *boundary loss* counts an error
# the more the farther it lies from the true rim: it is the mean of the predicted probability times the
# signed distance from the rim, negative inside (Kervadec and others, 2021, "Boundary loss for highly
# unbalanced segmentation", doi:10.1016/j.media.2020.101851). It is added to the usual loss, with a weight
# that grows during the training, as its authors do.
#
# A comparison is worth little if some trainings break down. The last layer therefore starts at 0, so that at
# first every pixel has the same, usual probability: with random weights, some trainings ended with
# nothing marked at all. So did two of three trainings with skips where the boundary loss had its whole weight
# from the first step: most pixels are far outside, and there it asks for small probabilities. The learning
# rate rises for a quarter of the steps and then falls, and long gradients are shortened.
inside, outside = (
    np.stack([ndimage.distance_transform_edt(m) for m in part])
    for part in (masks[:, 0].numpy() > 0.5, masks[:, 0].numpy() < 0.5)
)
signed = torch.from_numpy((outside - inside).astype("float32"))[:, None] / SIZE


def learn(net, seed, boundary):
    """Train a network; `boundary` is the weight of the boundary loss at the end."""
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=STEPS, pct_start=0.25
    )
    chance = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        batch = torch.randint(TRAIN, (8,), generator=chance)
        logits = net(images[batch])
        likely = torch.sigmoid(logits)
        overlap = 2 * (likely * masks[batch]).sum() / (likely + masks[batch]).sum()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, masks[batch]) + 1 - overlap
        if boundary:
            loss = loss + boundary * step / STEPS * (likely * signed[batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        return net(images[TRAIN:])[:, 0].numpy() > 0


# %%
# Each of the four learns with several seeds, because a single training is not conclusive; the
# separable ones also with the boundary loss. All see the same images in the same order.
found = {case: [learn(network(case, seed), seed, 0.0) for seed in SEEDS] for case in CASES}
BOUNDARY = "separable, {}, boundary loss"
for skips in ("skips", "none"):
    case = f"separable, {skips}"
    found[BOUNDARY.format(skips)] = [learn(network(case, seed), seed, 5.0) for seed in SEEDS]

# %%
# The answer
# ----------
# The Dice coefficient, twice the overlap divided by the sum of both areas, is 1 for a perfect mask.
# Mean and standard deviation over the seeds:
truth = masks[TRAIN:, 0].numpy() > 0.5


def dice(mask):
    """Return the Dice coefficient of a mask of all test images."""
    return 2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum())


scores = {name: np.array([dice(mask) for mask in every]) for name, every in found.items()}
for name, score in scores.items():
    print(f"{name:32} Dice {score.mean():.3f} ± {score.std(ddof=1):.3f} ({len(SEEDS)} seeds)")


# %%
# What each choice is worth, for the same seed with and without it:
def worth(better, worse):
    """Return the difference of two scores, its mean and standard deviation over the seeds."""
    gain = scores[better] - scores[worse]
    return f"{100 * gain.mean():+5.1f} ± {100 * gain.std(ddof=1):.1f} points"


print("skips, in the separable network:", worth("separable, skips", "separable, none"))
print("skips, in the dense network:    ", worth("dense, skips", "dense, none"))
print("dense convolutions, with skips: ", worth("dense, skips", "separable, skips"))
print("dense convolutions, without:    ", worth("dense, none", "separable, none"))
for skips in ("skips", "none"):
    gain = worth(BOUNDARY.format(skips), f"separable, {skips}")
    print(f"{f'the boundary loss, {skips}:':32}", gain)

# %%
# Neither replaces the other. With the seeds of this page the skips are worth 7.8 ± 0.3 points of Dice in
# the separable network and 5.7 ± 0.3 in the dense one. Dense convolutions are worth 1.0 ± 0.1 points with skips,
# at four times the multiplications, and 3.1 ± 0.2 without: they make up for less than half of the missing
# skips. A separable convolution saves multiplications, a skip connection brings back positions. The boundary
# loss is worth nothing here: Dice is 0.954 with it and 0.953 without it in the network with skips, and 0.875
# with and without it in the other one. The next section shows where the errors are.
#
# Where the errors are
# --------------------
# We measure the distance of each pixel from the rim of a tumour, and count the wrong pixels at each
# distance:
distance = np.where(truth, inside[TRAIN:], outside[TRAIN:])  # 1 for the pixels at the rim
BANDS = ((0, 1), (1, 2), (2, 3), (3, 5), (5, 100))
shares = {
    name: np.array(
        [
            [(mask != truth)[(distance > a) & (distance <= b)].mean() for a, b in BANDS]
            for mask in every
        ]
    ).mean(axis=0)
    for name, every in found.items()
}
texts = [f"up to {b}" for _, b in BANDS[:-1]] + [f"beyond {BANDS[-1][0]}"]
print(f"{'wrong pixels, from the rim:':32}", "  ".join(f"{text:>8}" for text in texts))
for name, share in shares.items():
    print(f"{name:32}", "  ".join(f"{100 * s:6.1f} %" for s in share))
saved = 100 * (shares["separable, none"] - shares["separable, skips"])
print(
    f"what skips save: {saved[0]:.1f} points at the rim, {round(saved[-1], 1) + 0.0:.1f} far from it"
)

# %%
fig, ax = plt.subplots(figsize=(7.4, 3.8), layout="constrained")
looks = {
    "separable, skips": (MAIN, "-", "o"), "separable, none": (MAIN, "--", "o"),
    "dense, skips": (ACCENT, "-", "D"), "dense, none": (ACCENT, "--", "D"),
}  # fmt: skip
for name, (colour, line, mark) in looks.items():
    ax.plot(100 * shares[name], color=colour, ls=line, marker=mark, label=name)
ax.set_xticks(range(len(BANDS)), texts)
ax.set(xlabel="distance from the rim (pixels)", ylabel="wrong pixels (%)", ylim=(0, None))
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %%
# Three test images, and the masks of the networks of the first seed. White pixels are tumour; the vermilion
# line is the true rim:
fig, axes = plt.subplots(3, 4, figsize=(8.6, 6.6), layout="constrained")
for number, row in enumerate(axes):
    panels = {"image": images[TRAIN + number, 0].numpy(), "truth": truth[number]}
    panels |= {name: found[name][0][number] for name in ("separable, skips", "separable, none")}
    for ax, (title, panel) in zip(row, panels.items(), strict=True):
        ax.imshow(panel, cmap="gray")
        if title in found:
            ax.contour(truth[number], [0.5], colors=ACCENT, linewidths=1.2)
        if not number:
            ax.set_title(title, size=10)
        ax.set_axis_off()

# %%
# Precision of the rims
# ---------------------
# The coarsest grid represents the presence of a tumour; the position of its rim between two points
# of that grid would have to be encoded in the channels and decoded again on the way up. Skip
# connections pass on the fine grid instead. The distance of the rims found from the true ones,
# without the worst tenth, for all seeds together:
true_rims = [wanted & ~ndimage.binary_erosion(wanted) for wanted in truth]
distances = [ndimage.distance_transform_edt(~rim) for rim in true_rims]
for name, every in found.items():
    rims = [
        far[guess & ~ndimage.binary_erosion(guess)]
        for mask in every
        for guess, far in zip(mask, distances, strict=True)
    ]
    off = np.concatenate(rims)
    text = f"{np.quantile(off, 0.9):.1f} pixels" if off.size else "no rim found"
    print(f"{name:32} {text}")

# %%
# The boundary loss changes neither table: 16.0 % of the pixels at the rim are wrong with it and without it
# if there are skips, 34.5 and 34.4 % if there are none, and the rims are as far off. It says which errors
# matter, those far from the rim, but the usual loss leaves no such errors here, and no loss can use positions
# that do not reach the last layer. So the answer is: for precise rims keep the skips; they cost 15 % of the
# multiplications of the separable network, and dense convolutions without them cost three times as many
# for less.
