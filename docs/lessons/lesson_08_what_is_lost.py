"""
8. What is lost
===============

A depthwise separable layer has far fewer weights than a dense one, so there must be functions that
it cannot represent. This lesson gives the exact condition, a number that can be computed for any
layer, and shows it on a small task: finding where red and blue lines cross.
"""

# %%
# Red and blue lines
# ------------------
# The scenes have red and blue lines, vertical and horizontal, some of them broken, and random
# dots. There are two detectors: one for positions where a red *vertical* line crosses a blue
# *horizontal* one, and one for red horizontal across blue vertical.
import sys

import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form trains for a moment only


def paint(count, rng, side=16, motifs=5):
    """Return scenes of 0 and 1, (scene, colour, y, x): lines of five pixels, some broken, and dots."""
    images = rng.random((count, 2, side, side)) < 0.02
    for image in images:
        for y, x in rng.integers(2, side - 2, (motifs, 2)):
            for plane in image:
                line = plane[y - 2 : y + 3, x] if rng.random() < 0.5 else plane[y, x - 2 : x + 3]
                line |= rng.random(5) < 0.9
    return images


def crossings(images):
    """Return where each detector must respond, (scene, detector, y, x)."""
    wide = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down = wide[..., :-2, 1:-1] & wide[..., 1:-1, 1:-1] & wide[..., 2:, 1:-1]
    across = wide[..., 1:-1, :-2] & wide[..., 1:-1, 1:-1] & wide[..., 1:-1, 2:]
    return np.stack([down[:, 0] & across[:, 1], across[:, 0] & down[:, 1]], axis=1)


rng = np.random.default_rng(3)
scenes = paint(200, rng)
wanted = crossings(scenes)
print("scenes, colours, rows, columns:  ", scenes.shape)
print("scenes, detectors, rows, columns:", wanted.shape)
print("crossings of either kind:", wanted.sum(axis=(0, 2, 3)))

# %%
import matplotlib.pyplot as plt
from separable.plot.style import ACCENT, INK, MAIN, plain_ticks
from matplotlib.colors import to_rgb


def show(ax, scene, title):
    """Paint one scene: red (a vermilion), blue, and dark where both are."""
    red, blue = (np.array(to_rgb(colour)) for colour in (ACCENT, MAIN))
    picture = np.ones((*scene.shape[1:], 3))
    picture[scene[0]] = red
    picture[scene[1]] = blue
    picture[scene[0] & scene[1]] = (0.25, 0.2, 0.3)
    ax.imshow(picture)
    ax.set_title(title, size=10)
    ax.set(xticks=[], yticks=[])


marks = {0: ("o", "red down, blue across"), 1: ("s", "red across, blue down")}
chosen = np.argsort(-wanted.any(axis=(2, 3)).sum(axis=1), kind="stable")[:3]
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.7), layout="constrained")
for ax, number in zip(axes, chosen, strict=True):
    show(ax, scenes[number], f"scene {number}")
    for detector, (mark, label) in marks.items():
        y, x = np.nonzero(wanted[number, detector])
        ax.plot(x, y, mark, ms=15, mfc="none", mec="#e0a800", mew=2.4, label=label)
handles, labels = axes[0].get_legend_handles_labels()
legend = figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=2)

# %%
# A dense layer can do it
# -----------------------
# Nothing needs to be learned: the weights can be written down. The first detector adds three red
# pixels of a column and three blue ones of a row, and responds if all six are set, that is if the
# sum is above five and a half. The second one exchanges column and row.
import torch

torch.set_num_threads(1)  # layers this small gain nothing from a second one

down = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
across = down.T
weights = np.stack([np.stack([down, across]), np.stack([across, down])])  # (o, c, y, x)


def average_precision(outputs, wanted):
    """Return the mean precision over the true crossings; equal outputs count as found last."""
    scores, truth = outputs.flatten(), wanted.flatten().double()
    last = truth.argsort(stable=True)
    hits = truth[last][scores[last].argsort(descending=True, stable=True)]
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return ((precision * hits).sum() / hits.sum()).item()


def dense_layer(weights):
    layer = torch.nn.Conv2d(2, len(weights), 3, padding="same")
    with torch.no_grad():
        layer.weight[:] = torch.from_numpy(weights)
        layer.bias[:] = -5.5
    return layer


seen = torch.from_numpy(scenes.astype(np.float32))
truth = torch.from_numpy(wanted.astype(np.float32))
dense = dense_layer(weights)
with torch.inference_mode():
    answers = dense(seen)
wrong = int(((answers > 0) != (truth > 0)).sum())
print(f"wrong at {wrong} of {truth.numel():,} places")

# %%
# A separable layer cannot
# ------------------------
# With depth multiplier 1 the layer has one kernel for red and one for blue, and each detector only
# has its own factors to combine them. But the first detector needs vertical lines in red and the
# second one horizontal lines. Written as a matrix, with one row per detector and one column per
# weight, the red weights of the two detectors are two different rows:
red = weights[:, 0].reshape(2, 9)
print(red.astype(int), " rank", np.linalg.matrix_rank(red))
print(sep.spectrum(weights, "ocyx -> oc,cyx"))

# %%
# This is the whole condition. For each input channel the weights form a matrix, output channels by
# kernel positions: **a dense layer equals a depthwise separable one with multiplier M if, and only
# if, none of these matrices has a rank above M.** The error of the best layer with a smaller
# multiplier follows from the singular values that it omits.
print("multiplier   error of the weights   average precision   wrong places")
cut = {}
for multiplier in (1, 2):
    layer = sep.nn.SeparableConv2d.from_dense(dense, rank=multiplier)
    with torch.inference_mode():
        cut[multiplier] = layer(seen)
    error = sep.factorize(weights, "ocyx -> oc,cyx", rank=multiplier).error
    precision = average_precision(cut[multiplier], truth)
    wrong = int(((cut[multiplier] > 0) != (truth > 0)).sum())
    print(f"{multiplier:10}{error:23.3f}{precision:20.3f}{wrong:15}")

# %%
# (Average precision is 1 if the response at every true crossing is higher than at all other
# positions.)
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), layout="constrained")
number = chosen[0]
show(axes[0], scenes[number], "scene")
for ax, multiplier in zip(axes[1:], (1, 2), strict=True):
    values = cut[multiplier][number, 0].numpy()
    drawn = ax.imshow(values, "RdBu_r", vmin=-5.5, vmax=5.5)
    ax.set_title(f"first detector, multiplier {multiplier}", size=10)
    ax.set(xticks=[], yticks=[])
    y, x = np.nonzero(wanted[number, 0])
    ax.plot(x, y, "o", ms=13, mfc="none", mec=INK, mew=1.6)
bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label="answer")

# %%
# Two detectors are necessary
# ---------------------------
# It is sometimes said that a depthwise separable layer cannot detect where a red vertical line
# crosses a blue horizontal one. The idea is right, but it needs a second detector. A layer with
# *one* output channel has matrices with a single row and therefore rank 1, so multiplier 1 is
# exact. One detector needs only one kernel for red and one for blue.
single = dense_layer(weights[:1])
alone = sep.nn.SeparableConv2d.from_dense(single, rank=1)
with torch.inference_mode():
    difference = (single(seen) - alone(seen)).abs().max()
    precision = average_precision(alone(seen), truth[:, :1])
rank = sep.spectrum(weights[:1], "ocyx -> oc,cyx").rank
print(f"one detector: rank {rank}, largest difference {difference:.0e}, precision {precision:.3f}")

# %%
# Something is lost if *two outputs need different kernels for the same channel*.
#
# Does training help?
# -------------------
# The best approximation of the weights need not be the best detector. So we train each layer on
# the task itself, from random weights. Two remedies are compared: a second filter per channel, and
# two separable layers with a nonlinearity between them. (The loss asks for a margin of 1 between
# crossings and other places, and counts a crossing 20 times, because there are few.) The result
# of a training depends on the initial weights and on the order of the images, so each is repeated
# with several seeds; the table gives the mean and the standard deviation.
from torch import nn


def two_layers(detectors):
    first, second = sep.nn.SeparableConv2d(2, 16, 3), sep.nn.SeparableConv2d(16, detectors, 3)
    return nn.Sequential(first, nn.ReLU(), second)


networks = {
    "dense": lambda detectors: nn.Conv2d(2, detectors, 3, padding="same"),
    "separable, M = 1": lambda detectors: sep.nn.SeparableConv2d(2, detectors, 3),
    "separable, M = 2": lambda detectors: sep.nn.SeparableConv2d(
        2, detectors, 3, depth_multiplier=2
    ),
    "two separable layers": two_layers,
}


def scenes_for(seed, count, detectors):
    """Return scenes and the correct responses as tensors."""
    images = paint(count, np.random.default_rng(seed))
    return [
        torch.from_numpy(a.astype(np.float32)) for a in (images, crossings(images)[:, :detectors])
    ]


def train(name, detectors, seed, steps, count):
    """Train a network; return it, its quality on other scenes, and the loss of every step."""
    torch.manual_seed(seed)
    net = networks[name](detectors)
    images, truth = scenes_for((seed, 0), count, detectors)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    found = []
    for _ in range(steps):
        batch = torch.randint(len(images), (64,))
        margin = 1 - (2 * truth[batch] - 1) * net(images[batch])
        loss = ((1 + 19 * truth[batch]) * margin.clamp(min=0).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        found.append(loss.item())
    images, truth = scenes_for((seed, 1), count // 4, detectors)
    with torch.inference_mode():
        return net, average_precision(net(images), truth), found


steps, seeds, count = (30, (0, 1), 100) if short else (1500, (0, 1, 2), 2000)
losses = {}
for detectors in (2, 1):
    names = list(networks) if detectors == 2 else list(networks)[:2]
    print(f"detectors: {detectors:22} parameters  multiplications  average precision")
    for name in names:
        runs = [train(name, detectors, seed, steps, count) for seed in seeds]
        net, qualities = runs[0][0], [quality for _, quality, _ in runs]
        losses[detectors, name] = np.mean([found for *_, found in runs], axis=0)
        total = sep.nn.ledger(net, (1, 2, 16, 16), backward=False).total
        counts = f"{total.parameters:11}{total.macs:17,}"
        spread = f"{np.mean(qualities):.3f} ± {np.std(qualities, ddof=1):.3f}"
        print(f"   {name:30}{counts}{spread:>19}")

# %%
figure, ax = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
styles = dict(zip(networks, ((MAIN, "-"), (ACCENT, "-"), (ACCENT, "--"), (INK, ":")), strict=True))
for name, (colour, dashes) in styles.items():
    smooth = sep.ndimage.uniform_filter1d(losses[2, name], 25, mode="nearest")
    ax.plot(smooth, dashes, color=colour, label=name)
ax.set(yscale="log", xlabel="step", ylabel="loss, mean over seeds", title="two detectors")
plain_ticks(ax.yaxis)
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %%
# With two detectors, multiplier 1 fails, and longer training does not help: both detectors see red
# through the same kernel, each multiplied by its own factor. The first responds to a vertical line
# but not to one without its middle, so its factor times the middle of the kernel is positive. The
# same holds for the second with a horizontal line, so both factors have the same sign. But the
# first must prefer the vertical line to the horizontal one, and the second the reverse.
#
# Kronecker products
# ------------------
# There is another way to see this. For one input channel, the weights of a layer with multiplier 1
# are a *Kronecker product*: each factor of the combining column, times the whole kernel.
layer = sep.nn.SeparableConv2d(2, 4, 3)
factors, kernels = (w.detach().numpy() for w in (layer.pointwise.weight, layer.depthwise.weight))
for channel in range(2):
    product = np.kron(factors[:, channel, 0], kernels[channel, 0])  # the kernels, stacked
    stacked = layer.to_dense().weight.detach().numpy()[:, channel].reshape(product.shape)
    print(f"channel {channel}: {product.shape}, difference {np.abs(product - stacked).max():.0e}")

# %%
# A dense layer is a sum of such products, as many as its rank, just as every kernel is a sum of
# columns times rows in :ref:`lesson 2
# <sphx_glr_lessons_built_lesson_02_how_far_from_separable.py>`. Patterns can describe Kronecker
# products of a 2-D kernel, too: a coarse kernel in which each weight is replaced by a fine one.
# Such a kernel need not be the product of a column and a row.
coarse = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
fine = np.array([[1, 2, 1], [2, 5, 2], [1, 2, 1]])
large = np.kron(coarse, fine)
sizes = {"Y": 3, "y": 3, "X": 3, "x": 3}
found = sep.factorize(large, "(Yy)(Xx) -> YX,yx", sizes=sizes)
assert np.array_equal(found.dense(), large)
print(f"as YX,yx: rank {found.rank}, {found.parameters} numbers for {large.size}")
print(f"as y,x:   rank {sep.spectrum(large, 'yx -> y,x').rank}")

# %%
# How large a multiplier pays?
# ----------------------------
# With enough filters per channel any layer can be represented exactly: at most K to the power of
# N, for kernels in N dimensions. Whether that pays is a matter of counting. From the following
# multiplier on, the separable layer costs more than the dense one:
print(f"{'':26}{'even at':>8}   exact at, costing        M = 4")
for kernel in ((3, 3), (5, 5), (3, 3, 3)):
    shape, positions = (*kernel, 64), int(np.prod(kernel))  # one place of the output
    whole = sep.cost.conv(shape, kernel, 256).multiplications
    one, four, full = (
        sep.cost.separable(shape, kernel, 256, depth_multiplier=m).multiplications
        for m in (1, 4, positions)
    )
    name = f"{' x '.join(map(str, kernel))}, 256 filters"
    print(
        f"{name:26}{whole / one:8.1f}{positions:11}   {full / whole:.3f} of dense"
        f"{whole / four:8.1f} times cheaper"
    )

# %%
# In 2-D an exact conversion of 3 x 3 costs slightly *more* than the dense layer: it pays only if
# the ranks are smaller, or if an error is allowed. In volumes there is far more to gain: with four
# filters per channel, a 3 x 3 x 3 layer is much cheaper than the dense one, and four terms often
# represent most of a trained layer.
