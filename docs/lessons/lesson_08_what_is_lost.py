"""
8. What is lost
===============

A depthwise separable layer has far fewer weights than a dense one, so there must be things that it
can not do. Which? This lesson finds the exact answer, a number that can be computed for any layer,
and shows it on a small task: to find where red and blue lines cross.
"""

# %%
# Red and blue lines
# ------------------
# The scenes have red and blue lines, upright and lying, some of them broken, and stray dots. Two
# detectors are asked for: one for places where a red *vertical* line crosses a blue *horizontal* one,
# and one for red horizontal across blue vertical. The scenes come from `crossing.py`, one of the
# examples in the repository.
import sys
from pathlib import Path

import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form trains for a moment only
sys.path.append(str(Path(sys.argv[0]).resolve().parents[2] / "examples"))
import crossing

rng = np.random.default_rng(3)
scenes = crossing.scenes(200, rng)
wanted = crossing.crossings(scenes)
print("scenes, colours, rows, columns:  ", scenes.shape)
print("scenes, detectors, rows, columns:", wanted.shape)
print("crossings of either kind:", wanted.sum(axis=(0, 2, 3)))

# %%
import matplotlib.pyplot as plt
from separable.plot.style import ACCENT, INK, MAIN
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
# A dense layer does it
# ---------------------
# Nothing needs to be learned: the weights can be written down. The first detector adds three red
# pixels of a column and three blue ones of a row, and answers where all six are there, which is where
# the sum is above five and a half. The second has the two exchanged.
import torch
from report import average_precision

torch.set_num_threads(1)  # layers this small gain nothing from a second one

down = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
across = down.T
weights = np.stack([np.stack([down, across]), np.stack([across, down])])  # (o, c, y, x)


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
# A separable one does not
# ------------------------
# With depth multiplier 1 the layer has one kernel for red and one for blue, and each detector only has
# factors of its own to mix them. But the first detector wants to see vertical lines in red and the
# second horizontal ones. Written as a matrix, a row for each detector and a column for each of the
# nine weights, what the two want of red has two different rows:
red = weights[:, 0].reshape(2, 9)
print(red.astype(int), " rank", np.linalg.matrix_rank(red))
print(sep.spectrum(weights, "ocyx -> oc,cyx"))

# %%
# That is the whole condition. For each input channel take the matrix of its weights, output channels
# by kernel positions: **a dense layer equals a depthwise separable one of multiplier M if, and only
# if, none of these matrices has a rank above M.** What the best layer of a smaller multiplier is off
# by is given by the singular values that it leaves out.
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
# (Average precision is 1 if every true crossing gets a higher answer than every other place.)
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
# It takes two
# ------------
# You may read elsewhere that a depthwise separable layer cannot tell where a red vertical line crosses
# a blue horizontal one. The idea is right, the example wants one thing more: a second detector. A layer
# with *one* output channel has matrices of a single row, a single row has rank 1, and multiplier 1 is
# exact. One kernel for red and one for blue is all that one detector asks for.
single = dense_layer(weights[:1])
alone = sep.nn.SeparableConv2d.from_dense(single, rank=1)
with torch.inference_mode():
    difference = (single(seen) - alone(seen)).abs().max()
    precision = average_precision(alone(seen), truth[:, :1])
rank = sep.spectrum(weights[:1], "ocyx -> oc,cyx").rank
print(f"one detector: rank {rank}, largest difference {difference:.0e}, precision {precision:.3f}")

# %%
# Something is lost where *two outputs want to see one channel in different ways*.
#
# Does learning help?
# -------------------
# The best approximation of the weights need not be the best detector. So let us train each layer on
# the task itself, from random weights, as in `examples/crossing.py`. Two repairs stand beside them:
# a second filter for each channel, and two separable layers with a nonlinearity between. Where a training
# ends depends on its first weights and on the order of its images, so each is run from several seeds; the
# table gives the mean and the standard deviation over them.
import argparse
import training

steps, seeds = (30, (0, 1)) if short else (1500, (0, 1, 2))
losses = {}
for detectors in (2, 1):
    task = crossing.example(argparse.Namespace(quick=short, detectors=detectors))
    data = {seed: task.data(seed) for seed in seeds}
    names = list(task.networks) if detectors == 2 else list(task.networks)[:2]
    print(f"detectors: {detectors:22} parameters  multiplications  average precision")
    for name in names:
        runs = [training.Run(task, name, seed=seed, steps=steps) for seed in seeds]
        results = [
            training.train(run, data[run.seed], training.Ranks(), lambda done, loss: None)[0]
            for run in runs
        ]
        qualities = [result.quality for result in results]
        losses[detectors, name] = np.mean([result.losses for result in results], axis=0)
        counts = f"{results[0].parameters:11}{results[0].multiplications:17,}"
        spread = f"{np.mean(qualities):.3f} ± {np.std(qualities, ddof=1):.3f}"
        print(f"   {name:30}{counts}{spread:>19}")

# %%
figure, ax = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
styles = dict(
    zip(list(task.networks), ((MAIN, "-"), (ACCENT, "-"), (ACCENT, "--"), (INK, ":")), strict=True)
)
for name, (colour, dashes) in styles.items():
    smooth = sep.ndimage.uniform_filter1d(losses[2, name], 25, mode="nearest")
    ax.plot(smooth, dashes, color=colour, label=name)
ax.set(yscale="log", xlabel="step", ylabel="loss, mean over seeds", title="two detectors")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %%
# With two detectors, multiplier 1 gets stuck, and no longer training will free it: both detectors see
# red through one kernel, times a factor of their own. The first answers to a vertical line and not to
# one without its middle, so its factor times the kernel's middle is positive; the second likewise with
# a horizontal line; so both factors have one sign. But the first has to prefer the vertical line to
# the horizontal one, and the second the reverse.
#
# The Kronecker view
# ------------------
# There is a second way to see the same. For one input channel, the weights of a layer with multiplier 1
# are a *Kronecker product*: each factor of the mixing column, times the whole kernel.
layer = sep.nn.SeparableConv2d(2, 4, 3)
factors, kernels = (w.detach().numpy() for w in (layer.pointwise.weight, layer.depthwise.weight))
for channel in range(2):
    product = np.kron(factors[:, channel, 0], kernels[channel, 0])  # the kernels, stacked
    stacked = layer.to_dense().weight.detach().numpy()[:, channel].reshape(product.shape)
    print(f"channel {channel}: {product.shape}, difference {np.abs(product - stacked).max():.0e}")

# %%
# A dense layer is a sum of such products, as many as the rank says, just as every kernel was a sum of
# columns times rows in :ref:`lesson 2 <sphx_glr_lessons_built_lesson_02_how_far_from_separable.py>`.
# The pattern language has Kronecker products for a kernel in the plane too: a coarse kernel, each of
# whose weights is replaced by a fine one. It need not come apart into a column and a row at all.
coarse = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
fine = np.array([[1, 2, 1], [2, 5, 2], [1, 2, 1]])
large = np.kron(coarse, fine)
sizes = {"Y": 3, "y": 3, "X": 3, "x": 3}
found = sep.factorize(large, "(Yy)(Xx) -> YX,yx", sizes=sizes)
assert np.array_equal(found.dense(), large)
print(f"as YX,yx: rank {found.rank}, {found.parameters} numbers for {large.size}")
print(f"as y,x:   rank {sep.spectrum(large, 'yx -> y,x').rank}")

# %%
# How much multiplier can one afford?
# -----------------------------------
# Enough filters for each channel make any layer exact: K to the power of N of them at most, for kernels
# in N dimensions. Whether that pays is a count. From this multiplier on, the separable layer costs
# more than the dense one:
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
# In the plane an exact conversion of 3 x 3 costs a little *more* than what it replaces: it can only pay
# where the ranks are smaller, or where something may be lost. In volumes there is far more room: with
# four filters for each channel, a layer of 3 x 3 x 3 is much cheaper than the dense one, and four
# terms often say most of what a trained layer has to say.
