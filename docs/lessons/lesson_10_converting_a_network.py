"""
10. Converting a trained network
================================

A trained network need not be trained again to become separable. Its layers are approximated by
separable ones, as kernels are in lesson 2. The question is how to distribute the multiplications:
which layers keep how many?
"""

# %%
# A dense network
# ---------------
# Four 3x3 convolutions that read handwritten digits, enlarged to 16 by 16 pixels: two early ones
# on the whole picture, and two late ones after pooling, with more channels at fewer positions.
import sys

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import separable as sep
from separable.plot.style import ACCENT, MAIN, MUTED

short = "--short" in sys.argv  # the form that takes seconds: less training, worse networks
torch.set_num_threads(1)  # networks this small gain nothing from a second one
SEEDS = (0, 1) if short else (0, 1, 2)

images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
images = nn.functional.interpolate(images, size=(16, 16), mode="bilinear")
labels = torch.tensor(labels)
train, test = train_test_split(
    np.arange(len(labels)), test_size=1 / 3, stratify=labels, random_state=0
)


def convolution(before, after):
    """A dense 3x3 convolution with its norm and ReLU."""
    conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


width, STEPS = (8, 20) if short else (16, 400)


def trained(seed):
    """Return a dense network, trained from one seed."""
    torch.manual_seed(seed)
    net = nn.Sequential()
    net.early1, net.early2 = convolution(1, width), convolution(width, 2 * width)
    net.pool1 = nn.MaxPool2d(2)
    net.late1 = convolution(2 * width, 4 * width)
    net.pool2 = nn.MaxPool2d(2)
    net.late2 = convolution(4 * width, 4 * width)
    net.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        batch = train[torch.randint(len(train), (64,))]
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


networks = [trained(seed) for seed in SEEDS]
net = networks[0]


def accuracy(model):
    """Return the share of the test digits that are read rightly, in percent."""
    with torch.no_grad():
        return 100 * (model(images[test]).argmax(1) == labels[test]).float().mean().item()


def spread(shares):
    """Return the mean and the standard deviation over the seeds as text."""
    return f"{np.mean(shares):.2f} ± {np.std(shares, ddof=1):.2f} %"


before = sep.nn.ledger(net, (1, 1, 16, 16), backward=False)
print(f"{spread([accuracy(n) for n in networks])} of {len(test)} digits right ({len(SEEDS)} seeds)")
print(f"{before.total.multiplications:,} multiplications for one digit")

# %%
# Converted to a third
# --------------------
# ``budget`` is the share of the multiplications that may remain, ``data`` some unlabelled images
# (calibration data): the separable layers are fitted to the inputs that the layers actually
# receive. No training takes place.
count = 64 if short else 256
calibration = [images[batch] for batch in train[:count].reshape(-1, 64)]
how = {"repeats": 0, "sweeps": 1 if short else 2}  # no times measured
small, report = sep.nn.convert(net, budget=1 / 3, data=calibration, **how)
print(report)

# %%
# The counts are for a batch of 64. Each input channel has its own rank; the column *rank* gives
# the smallest and the largest. The *weights* differ considerably from the trained ones. That is
# not a problem: they were fitted to give the same *output*, and directions that do not occur in
# the inputs do not matter.
#
# The table is that of the network with the first seed. A single training is not conclusive, so
# here are all seeds:
others = [sep.nn.convert(n, budget=1 / 3, data=calibration, **how)[0] for n in networks[1:]]
converted = [small, *others]
originals, converted = ([accuracy(n) for n in found] for found in (networks, converted))
print(f"{spread(originals)} right before, {spread(converted)} after")

# %%
# All budgets at once
# -------------------
# The conversion first computes the error of each layer at each rank. Together they give a curve
# for the whole network, drawn here with the chosen budget:
ax = sep.plot.tradeoff(report)
title = ax.set_title("The best network for each budget")

# %%
# That is the error of the layers. What matters to a user is how many digits are read correctly,
# with data and without (for the network with the first seed, here and below):
SHARES = (0.4,) if short else (0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
shape = (1, 1, 16, 16)
rows = []
for share in SHARES:
    plain, _ = sep.nn.convert(net, budget=share, input_shape=shape, **how)
    fitted, found = sep.nn.convert(net, budget=share, data=calibration, **how)
    rows.append((accuracy(plain), accuracy(fitted)))
    fewer = found.multiplications_before / found.multiplications
    print(
        f"{fewer:4.1f} times fewer: {rows[-1][0]:6.2f} % right without data,"
        f" {rows[-1][1]:6.2f} % with {count} unlabelled images"
    )

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for column, name, colour in ((0, "without data", ACCENT), (1, "with data", MAIN)):
    ax.plot(SHARES, [r[column] for r in rows], "o-", color=colour, label=name)
ax.axhline(accuracy(net), color=MUTED, linestyle="--", label="dense")
ax.set(xlabel="share of the multiplications that remain", ylabel="digits right (%)")
ax.set(title="With and without calibration data")
ax.legend(frameon=False)

# %%
# Which layers keep their multiplications
# ---------------------------------------
# The budget is spent where it reduces the error most, not in equal shares:
kept = {}
for layer in report.layers:
    kept[layer.name] = layer.multiplications / layer.multiplications_before
    share = layer.multiplications_before / report.multiplications_before
    why = (
        f"not converted: {layer.reason}"
        if layer.reason
        else f"keeps {100 * kept[layer.name]:.0f} %"
    )
    print(f"{layer.name:9} {100 * share:4.1f} % of the network, {why}")

# %%
# Two things decide. One is the cost. A term of a layer with C_out output channels costs
# 9 + C_out multiplications per input channel and position, the dense layer 9 C_out. Up to
# 9 C_out / (9 + C_out) terms are cheaper than the dense layer, so a layer with few output channels,
# usually an early one, has little to gain:
for channels in (16, 32, 64, 256):
    dense, term = 9 * channels, 9 + channels
    print(f"{channels:3} output channels: {dense / term:.1f} terms cost what the dense layer costs")

# %%
# The other is the number of terms that the weights need. The singular values of the filters of
# each input channel (lesson 8) say how much of a layer a number of terms represents, if only its
# weights matter:
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
colours = ("#56a0d3", MAIN, "#e39b72", ACCENT)
for name, colour in zip(("early1", "early2", "late1", "late2"), colours, strict=True):
    matrices = net.get_submodule(name)[0].weight.detach().permute(1, 0, 2, 3).flatten(2)
    squares = (torch.linalg.svdvals(matrices) ** 2).sum(0)  # over the input channels
    left = 1 - torch.cumsum(squares, 0) / squares.sum()
    error = left.clamp(min=0).sqrt()
    terms = np.arange(1, len(error) + 1)
    ax.plot(terms, error.numpy(), "o-", color=colour, label=name)
    print(f"{name}: relative error {error[0]:.2f} with one term, {error[3]:.2f} with four")
ax.set(xlabel="terms per input channel", ylabel="relative error of the weights")
ax.set(title="How much of a layer a few terms keep")
ax.legend(frameon=False)

# %%
# One layer alone
# ---------------
# A tenth of all multiplications is saved in a single layer: the same saving at the beginning or at
# the end. (The first layer does not have a tenth to save.) The layer with the smallest error had
# the most redundancy.
alone = {}
for name in ("early2", "late2") if short else ("early2", "late1", "late2"):
    model, found = sep.nn.convert(net, budget=0.9, include=[name], data=calibration, **how)
    alone[name] = found.output_error
    print(
        f"only {name}: {found.multiplications / found.multiplications_before:.3f} of the "
        f"multiplications remain, error of the output {found.output_error:.4f}, "
        f"{accuracy(model):.2f} % right"
    )
print("most redundant:", min(alone, key=alone.get))

# %%
# The same saving, distributed over all layers by the conversion:
model, found = sep.nn.convert(net, budget=0.9, data=calibration, **how)
print(
    f"all layers: {found.multiplications / found.multiplications_before:.3f} of the "
    f"multiplications remain, error of the output {found.output_error:.4f}, "
    f"{accuracy(model):.2f} % right"
)

# %%
# Early or late layers?
# ---------------------
# Those were four layers of one network. To answer the question, several networks are trained with
# several seeds: a plain one and one with residual connections, each with three stages of equal cost,
# because channels double where the picture halves. The digits get noise, so that there is something
# to lose.
noise = torch.Generator().manual_seed(0)
noisy = images + 0.5 * torch.randn(images.shape, generator=noise)
base, ROUNDS = (6, 10) if short else (12, 160)
STAGES = ("early", "middle", "late")


class Stage(nn.Module):
    """Two layers of one width, dense or separable, with or without residual connections."""

    def __init__(self, channels, separable, residual):
        super().__init__()
        kind = sep.nn.SeparableConv2d if separable else nn.Conv2d
        self.convs = nn.ModuleList(
            kind(channels, channels, 3, padding=1, bias=False) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))
        self.residual = residual

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(x))
            x = torch.relu(x + y if self.residual else y)
        return x


class ThreeStages(nn.Module):
    """Three stages; those named are separable."""

    def __init__(self, separable, residual):
        super().__init__()
        self.stem = convolution(1, base)
        for at, name in enumerate(STAGES):
            setattr(self, name, Stage(base * 2**at, name in separable, residual))
        self.widen = nn.ModuleList(
            nn.Conv2d(base * 2**at, base * 2 ** (at + 1), 1) for at in (0, 1)
        )
        self.head = nn.Linear(4 * base, 10)

    def forward(self, x):
        x = self.middle(self.widen[0](nn.functional.max_pool2d(self.early(self.stem(x)), 2)))
        x = self.late(self.widen[1](nn.functional.max_pool2d(x, 2)))
        return self.head(x.amax((2, 3)))


def learned(separable, residual, seed):
    """Return a network of three stages, trained from one seed."""
    torch.manual_seed(seed)
    net = ThreeStages(separable, residual)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUNDS)
    for _ in range(ROUNDS):
        batch = train[torch.randint(len(train), (64,))]
        loss = nn.functional.cross_entropy(net(noisy[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def right(model):
    """Return the share of noisy test digits that are read correctly, in percent."""
    with torch.no_grad():
        return 100 * (model(noisy[test]).argmax(1) == labels[test]).float().mean().item()


# %%
# **In training.** One stage is separable from the start, the others are dense:
cases = {"all dense": (), "separable early": ("early",), "separable late": ("late",)}
trained_stages, found_right = {}, {}
for residual in (False, True):
    family = "residual" if residual else "plain"
    for title, separable in cases.items():
        made = [learned(separable, residual, seed) for seed in SEEDS]
        trained_stages[family, title] = made
        found_right[family, title] = [right(m) for m in made]
        cost = sep.nn.ledger(made[0], (1, 1, 16, 16), backward=False).total.multiplications
        print(
            f"{family:8} {title:15} {cost:9,} multiplications, {spread(found_right[family, title])} right"
        )

# %%
# **In conversion.** The dense networks of both kinds lose a quarter of their multiplications in one
# stage, without training:
calibration = [noisy[batch] for batch in train[:count].reshape(-1, 64)]
lost = {"early": [], "late": []}
for family in ("plain", "residual"):
    for name, losses in lost.items():
        errors, own = [], []
        for net in trained_stages[family, "all dense"]:
            model, found = sep.nn.convert(
                net, "auto", budget=0.75, include=[name], data=calibration, **how
            )
            errors.append(100 * found.output_error)
            own.append(right(net) - right(model))
        losses += own
        print(
            f"{family:8} only {name:5} error of the output {spread(errors)}, accuracy lost {spread(own)}"
        )

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for at, shares in enumerate(found_right.values()):
    ax.plot([at] * len(shares), shares, "o", color=MAIN)
    ax.plot(at, np.mean(shares), "_", color=ACCENT, markersize=28, markeredgewidth=2)
ax.set_xticks(range(len(found_right)), [f"{f}\n{t}" for f, t in found_right], fontsize=7)
ax.set(ylabel="noisy digits right (%)", title="One point per seed, the bar is their mean")

# %%
# In training, the late stage was the better one to separate: a separable early stage costs 1.3 points
# in both kinds of network (86.5 to 85.1 and 87.0 to 85.8 %), a late one gains 0.3 and loses 1.0. The
# spread over the seeds is 0.4 to 1.6 points, so the second network does not decide anything. In
# conversion, the plain network loses more in its early stage (3.2 points against 2.1, but one seed
# alone makes most of that) and the residual one in its late stage (1.6 against 0.8).
#
# Neither "early" nor "late" is a rule. What counts is the number of output channels, the share of the
# multiplications, how fast the singular values decrease, and that errors at the beginning pass
# through all later layers. The conversion takes all of this into account for the given network; with
# ``metric=`` it even measures the score with each layer alone.
