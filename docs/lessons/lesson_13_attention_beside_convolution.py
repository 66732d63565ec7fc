"""
13. Attention and separable convolution
=======================================

A depthwise filter combines neighbouring positions with weights that were learned once. Attention
combines *all* positions, with weights that it computes for each image. Both leave the combination
of channels to matrices. This lesson counts both, measures both, and uses the two in one small
network that solves a task which neither can solve alone.
"""

# %%
# Equal counts
# ------------
# N positions with C channels, C = C_in = C_out. The separable layer filters each channel with K x K
# weights and combines the channels once: N C K² + N C². From attention we count the same: one product that
# combines the positions and one matrix that combines the channels: N² C + N C². The second term is
# the same in both, so the costs are equal if N = K². To check this, we count for growing images
# until attention costs more:
import sys
import time

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import nn

import separable as sep
from separable.plot.style import ACCENT, INK, MAIN, MUTED, colour_scale, plain_ticks

short = "--short" in sys.argv  # the form that takes seconds: small images, little training
torch.set_num_threads(1)  # one core for both, so that the ratios are about the layers


def separable_cost(places, channels, size):
    """A row of so many places is enough to count by."""
    shape = (1, places, channels)
    return sep.cost.separable(shape, (size, size), channels, padding="same").macs


def crossing(size, channels, counted, most=5000):
    """Return the smallest number of positions at which attention costs more, or None."""
    for places in range(1, most):
        cost = sep.cost.attention(places, channels, counted=counted).macs
        if cost > separable_cost(places, channels, size):
            return places
    return None


print("kernel    K²   attention costs more from")
for size in (3, 5, 7, 15):
    print(f"{size:2} x {size:<3}{size**2:5}{crossing(size, 64, 'alike'):10} places")

# %%
# An image of 16 x 16 has 256 positions, far more than the crossing point of all kernels in use.
#
# Full counts
# -----------
# The comparison above favours attention. It has *four* matrices, for queries, keys, values and the
# result, and *two* products over all pairs of positions: 2 N² C + 4 N C². With these, attention
# costs more even for a single position, unless the kernel has more than three times as many
# weights as there are channels:
print(
    "channels"
    + "".join(f"{f'{k} x {k}':>10}" for k in (3, 7, 15, 31))
    + "   (attention costs more from)"
)
for channels in (16, 64, 256):
    cells = (crossing(k, channels, "exact") for k in (3, 7, 15, 31))
    print(f"{channels:8}" + "".join(f"{places:10}" for places in cells))

# %%
# PyTorch may run something other than the formula. Here is attention as a layer, in ten lines, and
# the ledger, which counts every operation.


class Attention(nn.Module):
    """Self-attention, with one head, over the places of an image (n, c, y, x)."""

    def __init__(self, channels):
        super().__init__()
        self.ask = nn.Linear(channels, 3 * channels, bias=False)
        self.give = nn.Linear(channels, channels, bias=False)

    def forward(self, image):
        places = image.flatten(2).mT[:, None]  # (n, head, place, c)
        query, key, value = self.ask(places).chunk(3, dim=3)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.give(mixed)[:, 0].mT.unflatten(2, image.shape[2:])


def counted(layer, channels, side):
    return sep.nn.ledger(layer.eval(), (1, channels, side, side), backward=False).total


found = counted(Attention(64), 64, 16)
formula = sep.cost.attention(16**2, 64)
print(f"the ledger {found.macs:,} multiply-adds, the formula {formula.macs:,}")
assert (found.macs, found.parameters) == (formula.macs, formula.parameters)
conv = counted(sep.nn.SeparableConv2d(64, 64, 3), 64, 16)
print(f"a separable 3 x 3 layer {conv.macs:,}, {found.macs / conv.macs:.1f} times fewer")

# %%
# Measured times
# --------------
# More positions, one image at a time. In brackets the ratio that follows from the counts:
widths = (32,) if short else (32, 128)
sides = (4, 8, 16) if short else (4, 8, 16, 32, 48)


def seconds(layer, image, patience=0.05 if short else 0.3):
    """The best of many times."""
    with torch.inference_mode():
        layer(image)  # the first run prepares
        took = []
        while len(took) < 3 or sum(took) < patience:
            start = time.perf_counter()
            layer(image)
            took.append(time.perf_counter() - start)
    return min(took)


KINDS = {
    "attention": (Attention, ACCENT, "D"),
    "separable 3 x 3": (lambda c: sep.nn.SeparableConv2d(c, c, 3), MAIN, "o"),
    "separable 7 x 7": (lambda c: sep.nn.SeparableConv2d(c, c, 7), INK, "s"),
}
times, counts = {}, {}
print("channels places" + "".join(f"{name:>16}" for name in KINDS) + "   attention / 3 x 3")
for channels in widths:
    for side in sides:
        image = torch.randn(1, channels, side, side)
        for name, (make, _, _) in KINDS.items():
            layer = make(channels).eval()
            counts[name, channels, side] = counted(layer, channels, side).macs
            times[name, channels, side] = seconds(layer, image)
        row = "".join(f"{1e3 * times[name, channels, side]:13.3f} ms" for name in KINDS)
        ratio, expected = (
            by["attention", channels, side] / by["separable 3 x 3", channels, side]
            for by in (times, counts)
        )
        print(f"{channels:8}{side**2:7}{row}{ratio:11.1f} ({expected:.1f})")

# %%
places = [side**2 for side in sides]
channels = widths[-1]
figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained")
for ax, values, unit in ((axes[0], counts, 1e6), (axes[1], times, 1e-3)):
    for name, (_, colour, mark) in KINDS.items():
        line = [values[name, channels, side] / unit for side in sides]
        ax.plot(places, line, mark + "-", color=colour, label=name)
    ax.set(xscale="log", yscale="log", xlabel="places", xticks=places, xticklabels=places)
    ax.xaxis.minorticks_off()
    plain_ticks(ax.yaxis)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="multiply-adds (millions)", title=f"counted, {channels} channels")
axes[1].set(ylabel="time (ms)", title="measured")
legend = axes[0].legend(frameon=False)


# %%
# The slope of the lines between the two largest images: 1 means that twice as many positions take
# twice as long, 2 that they take four times as long.
def slope(values, name):
    before, after = (values[name, channels, side] for side in sides[-2:])
    return np.log(after / before) / np.log(places[-1] / places[-2])


for name in KINDS:
    print(f"{name:16} counted {slope(counts, name):.2f}, measured {slope(times, name):.2f}")

# %%
# By the counts convolution has slope 1, and attention changes from 1, where its four matrices are
# most of the work, to 2. Measured times differ. A small image takes about as long as starting the
# operations, of which the separable layer has no fewer. In larger images attention gains because
# it consists of matrix products, which use a processor better than a depthwise filter that waits
# for memory (lesson 7); it loses because of an exponential per pair of positions, which no count
# of multiplications includes.
#
# The receptive fields
# --------------------
# The gradient shows on which pixels one output, in the middle, depends:
torch.manual_seed(0)
side = 16
three = nn.Sequential(*(sep.nn.SeparableConv2d(8, 8, 3) for _ in range(3)))
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.6), layout="constrained")
for ax, (name, layer) in zip(
    axes, {"three separable 3 x 3": three, "one attention": Attention(8)}.items(), strict=True
):
    image = torch.randn(1, 8, side, side, requires_grad=True)
    layer(image)[0, :, side // 2, side // 2].sum().backward()
    size = image.grad.abs().sum((0, 1)).sqrt().numpy()
    print(f"{name:22} depends on {np.count_nonzero(size):3} of {side**2} places")
    drawn = ax.imshow(size, **colour_scale(size, np.quantile(size, 0.99)))
    figure.colorbar(drawn, ax=ax, shrink=0.8, label="root of the gradient")
    ax.set_title(name, size=10)
    ax.set(xticks=[], yticks=[])

# %%
# Three layers of 3 x 3 reach three pixels, whatever the image. Attention reaches everything, but
# it does not use *positions*: if the pixels are permuted, the outputs are permuted in the same
# way, and nothing else changes. For a filter they do change.
order = torch.randperm(side**2)
image = torch.randn(1, 8, side, side)
moved = image.flatten(2)[..., order].unflatten(2, (side, side))
with torch.inference_mode():
    for name, layer in (("three separable 3 x 3", three), ("one attention", Attention(8))):
        expected = layer(image).flatten(2)[..., order]
        gap = (layer(moved).flatten(2) - expected).abs().max() / expected.abs().max()
        print(f"{name:22} largest difference, relative: {gap:.0e}")

# %%
# A task that needs both
# ----------------------
# Pages with small signs of five pixels each. One of them is marked, in a second channel. The
# question, at the middle of each of the others: is it the *same* sign as the marked one?
# Recognising a sign is local and depends on positions; finding the marked sign is not local,
# because there is always a gap between two signs. Half of the signs are the same, so guessing is
# right half of the time.
SIDE, CELL, SIGNS, CHANNELS = 12, 4, 5, 32
PAGES, STEPS = ((200, 100), 4) if short else ((5000, 500), 500)
SEEDS = (0, 1) if short else (0, 1, 2)
shapes = ["111010010", "010111010", "101010101", "110100110"]
shapes = np.array([[int(digit) for digit in shape] for shape in shapes]).reshape(-1, 3, 3)


def page(rng):
    """Return ink and mark (2, y, x), and the answers (y, x), NaN where nothing is asked."""
    image, answers = np.zeros((2, SIDE, SIDE)), np.full((SIDE, SIDE), np.nan)
    marked, shift = rng.integers(len(shapes)), rng.integers(0, 2, 2)
    cells = rng.permutation((SIDE // CELL) ** 2)[: SIGNS + 1]
    for number, cell in enumerate(cells):
        same = number == 0 or rng.random() < 0.5
        kind = marked if same else (marked + rng.integers(1, len(shapes))) % len(shapes)
        y, x = CELL * np.array(divmod(cell, SIDE // CELL)) + shift
        image[0, y : y + 3, x : x + 3] = shapes[kind]
        if number == 0:
            image[1, y : y + 3, x : x + 3] = 1
        else:
            answers[y + 1, x + 1] = same
    return image.astype("float32"), answers.astype("float32")


rng = np.random.default_rng(0)
train, test = (
    [torch.from_numpy(np.stack(part)) for part in zip(*(page(rng) for _ in range(n)), strict=True)]
    for n in PAGES
)
asked = ~test[1].isnan()
print(f"signs that are the same in the test: {test[1][asked].mean():.1%}")

# %%
# The networks differ in two steps. Each is a chain of residual steps, as in most current networks:
# a step that combines positions, a step that combines channels, twice. The hybrid combines
# positions first by a separable convolution and then by attention. The input of a step is
# normalised at each position separately: normalisation over the whole image, such as PyTorch's
# GroupNorm, would give each position information about all others, so that a convolution alone
# could solve the task.


class Step(nn.Module):
    """Add to the image what a layer makes of it."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, image):
        normed = nn.functional.layer_norm(image.movedim(1, -1), (CHANNELS,)).movedim(-1, 1)
        return image + self.layers(normed)


def seen(net):
    """On how many places the answer in the middle depends."""
    image = test[0][:1].clone().requires_grad_()
    net(image)[0, 0, SIDE // 2, SIDE // 2].backward()
    return int((image.grad.abs().sum((0, 1)) > 0).sum())


def near():
    return Step(sep.nn.SeparableConv2d(CHANNELS, CHANNELS, 3), nn.ReLU())


def far():
    return Step(Attention(CHANNELS))


def each():
    wide = 2 * CHANNELS
    return Step(nn.Conv2d(CHANNELS, wide, 1), nn.ReLU(), nn.Conv2d(wide, CHANNELS, 1))


def network(first, second):
    ends = nn.Conv2d(2, CHANNELS, 1), nn.Conv2d(CHANNELS, 1, 1)
    return nn.Sequential(ends[0], first, each(), second, each(), ends[1])


KINDS_OF_NETWORK = {
    "convolution": (near, near),
    "attention": (far, far),
    "hybrid": (near, far),
}


def learn(net, seed):
    """Train a network; return its losses."""
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    chance, losses = torch.Generator().manual_seed(seed), []
    for _ in range(STEPS):
        batch = torch.randint(PAGES[0], (32,), generator=chance)
        wanted = train[1][batch]
        at = ~wanted.isnan()
        loss = nn.functional.binary_cross_entropy_with_logits(
            net(train[0][batch])[:, 0][at], wanted[at]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


losses, answers = {}, {}  # of the first seed
print(f"{'':12}{'multiply-adds':>14}{'parameters':>12}{'sees':>6}{'right':>16}")
for name, (first, second) in KINDS_OF_NETWORK.items():
    right = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        net = network(first(), second())
        lost = learn(net, seed)
        with torch.inference_mode():
            answer = net.eval()(test[0])[:, 0]
        right.append(100 * ((answer > 0) == (test[1] > 0.5))[asked].float().mean().item())
        losses.setdefault(name, lost)
        answers.setdefault(name, answer)
    cost = sep.nn.ledger(net, (1, 2, SIDE, SIDE), backward=False).total
    spread = f"{np.mean(right):.1f} ± {np.std(right, ddof=1):.1f} %"
    print(f"{name:12}{cost.macs:14,}{cost.parameters:12,}{seen(net):6}{spread:>16}")

# %%
# The last column is the mean over seeds and the standard deviation. Convolution recognises each
# sign but has no access to the mark; attention finds the mark but cannot distinguish the signs,
# because all of them have five pixels. Both can only guess. Together they solve the task, with
# fewer multiplications than attention alone.
figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
window = min(20, STEPS)
styles = ((MAIN, "--"), (ACCENT, "-."), (INK, "-"))
for (name, values), (colour, dashes) in zip(losses.items(), styles, strict=True):
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    ax.plot(smooth, dashes, color=colour, label=name)
ax.set(xlabel="step", ylabel=f"loss, mean of {window} steps", ylim=(0, 0.8))
ax.axhline(np.log(2), color=MUTED, lw=0.6)
ax.text(STEPS - window, np.log(2), "guessing", color=MUTED, ha="right", va="bottom")
ax.legend(frameon=False, loc="lower left")
ax.spines[["top", "right"]].set_visible(False)

# %%
# Three test pages. The marked sign is grey; signs that the hybrid considers the same are framed,
# others are dashed:
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), layout="constrained")
for number, ax in enumerate(axes):
    ink, mark = test[0][number].numpy()
    ax.imshow(ink * (1 - 0.4 * mark) + 0.12 * mark, cmap="gray_r", vmin=0, vmax=1.1)
    said, wanted = answers["hybrid"][number].numpy() > 0, test[1][number].numpy()
    for y, x in np.argwhere(~np.isnan(wanted)):
        look = (
            {"ec": MAIN, "ls": "-", "lw": 3} if said[y, x] else {"ec": ACCENT, "ls": ":", "lw": 2}
        )
        ax.add_patch(plt.Rectangle((x - 1.65, y - 1.65), 3.3, 3.3, fill=False, **look))
    wrong = int((said != wanted)[~np.isnan(wanted)].sum())
    ax.set_title(f"{wrong} of {SIGNS} wrong", size=10)
    ax.set(xticks=[], yticks=[], xlim=(-1, SIDE), ylim=(SIDE, -1))

# %%
# Large networks are built in the same way: convolution early, where images are large and
# neighbours matter; attention late, at few positions, where N² is small and the whole picture
# matters. The saving, for the same attention at the four sizes through which an image of 224 x 224
# passes:
print("   grid   attention   separable 3 x 3   ratio   (millions of multiply-adds)")
for side in (56, 28, 14, 7):
    whole = sep.cost.attention(side**2, 256).macs
    part = separable_cost(side**2, 256, 3)
    print(f"{side:3} x {side:<3}{whole / 1e6:10.0f}{part / 1e6:18.1f}{whole / part:8.1f}")
