"""
7. The cost curves
==================

A short formula gives the number of multiplications that a depthwise separable layer saves. It does
not give the *time*: a processor also has to load the numbers that it multiplies. This lesson shows
both, the curves of the counts and the *roofline* of the machine.
"""

# %%
# 1 / C_out + 1 / K²
# ------------------
# In all lessons C_in are the input channels of a layer, C_out its filters, K is the size of its kernel
# and M the depth multiplier. For C_out filters of K x K weights, the cost of the separable layer
# relative to the dense one is, with M = 1,
#
# .. code-block:: none
#
#     1 / C_out  +  1 / K²
#
# A curve that is often shown has C_out = 3 and K from 32 to 1024. To check the formula, we count both
# layers at one output position:
import sys

import numpy as np

import separable as sep

short = "--short" in sys.argv  # the short form measures fewer and smaller layers


def ratio(outputs, size, inputs=64):
    """Separable over dense, counted; the number of input channels cancels."""
    shape, kernel = (size, size, inputs), (size, size)
    separable = sep.cost.separable(shape, kernel, outputs).multiplications
    return separable / sep.cost.conv(shape, kernel, outputs).multiplications


sizes = [2**n for n in range(5, 11)]
large = [ratio(3, k) for k in sizes]
for k, r in zip(sizes, large, strict=True):
    assert abs(r - (1 / 3 + 1 / k**2)) < 1e-12
    print(f"K = {k:5}: {r:.7f} of the dense layer, {1 / r:.3f} times fewer")
print(f"1 / C_out = {1 / 3:.7f}")

# %%
# The curve approaches one third from above: the pointwise part remains, and with three filters it
# is a third of the dense cost. **With few output channels a larger kernel does not help.** Layers
# of real networks are at the other end: small kernels and many filters.
filters = [64, 128, 256, 512, 1024]
usual = {k: [1 / ratio(n, k) for n in filters] for k in (3, 5, 7)}
print(f"the dense layer of 64 channels and 128 filters, 3 x 3: {1 / ratio(128, 3):.2f} times")
print("filters" + "".join(f"{k} x {k}".rjust(9) for k in usual) + "   (times fewer)")
for at, n in enumerate(filters):
    print(f"{n:7}" + "".join(f"{usual[k][at]:9.2f}" for k in usual))

# %%
# The column for 3 x 3 contains the factor of "8 to 9" that is often quoted. The limit for many
# filters is K² = 9, which is never quite reached.
import matplotlib.pyplot as plt
from separable.plot.style import ACCENT, INK, MAIN, MUTED, plain_ticks

figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
axes[0].plot(sizes, large, "o-", color=MAIN)
axes[0].axhline(1 / 3, color=MUTED, ls="--")
axes[0].text(sizes[0], 1 / 3 - 5e-5, "1 / C_out", color=MUTED, va="top")
axes[0].set_xscale("log", base=2)
axes[0].set(
    xlabel="size of the kernel, K", ylabel="separable over dense", title="three filters",
    xticks=sizes, xticklabels=sizes, ylim=(0.3328, 0.3345),
)  # fmt: skip
axes[0].ticklabel_format(axis="y", useOffset=False)
for (k, values), colour, dashes in zip(
    usual.items(), (MAIN, ACCENT, INK), ("-", "--", ":"), strict=True
):
    axes[1].plot(filters, values, "o", ls=dashes, color=colour, label=f"{k} x {k}")
    axes[1].axhline(k**2, color=colour, lw=0.6, alpha=0.5)
axes[1].set_xscale("log", base=2)
axes[1].set(
    xlabel="filters", ylabel="dense over separable", title="small kernels", xticks=filters,
    xticklabels=filters, ylim=(0, 58),
)  # fmt: skip
axes[1].legend(frameon=False, ncols=3, loc="upper left")
for ax in axes:
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)

# %%
# Memory traffic
# --------------
# Each layer reads its input and its weights and writes its output. We take a typical layer, 3 x 3
# on 56 x 56 pixels with 128 channels in and out, and count the multiplications per byte of memory
# traffic, the *arithmetic intensity*.
shape, channels = (56, 56), 128
layers = {
    "dense 3 x 3": sep.cost.conv((*shape, channels), (3, 3), channels, padding="same"),
    "depthwise 3 x 3": sep.cost.conv(
        (*shape, channels), (3, 3), channels, padding="same", groups=channels
    ),
    "pointwise": sep.cost.conv((*shape, channels), (1, 1), channels),
}
print(f"{'':17}{'multiplications':>16}{'bytes':>12}{'per byte':>16}")
for name, cost in layers.items():
    each = cost.multiplications_per_byte
    print(f"{name:17}{cost.multiplications:16,}{cost.bytes:12,}{each:16.2f}")
whole, deep, point = layers.values()
apart = deep + point
print(f"dense over separable: {whole.multiplications / apart.multiplications:.1f} times", end=" ")
print(f"the multiplications, {whole.bytes / apart.bytes:.1f} times the bytes")

# %%
# The depthwise layer needs 128 times fewer multiplications than the dense one but nearly as much
# memory traffic; together with the pointwise layer even more. The saving in arithmetic thus costs
# memory traffic.
print(
    f"dense over depthwise: {whole.multiplications / deep.multiplications:.0f} times the", end=" "
)
print(f"multiplications, {whole.bytes / deep.bytes:.1f} times the bytes")


# %%
# Two ways to count bytes
# -----------------------
# Introductions often claim the opposite: that separable layers move far *fewer* bytes. Both are
# right, for different caches. Our count assumes that everything is read once. A program works tile by
# tile, though, and if the weights do not stay in the cache until the next tile, it fetches them again
# for each. With tiles of T x T outputs the bytes are
#
# .. code-block:: none
#
#     (56 / T)² · (weights + (T + K - 1)² · C_in) · 4   +   56² · C_out · 4
#
# A dense layer has nearly nine times as many weights as a separable one, and small tiles make them
# count:
def tiled_bytes(side, kernel, weights, tile, width=channels):
    """Return the bytes of a layer whose weights are fetched again for every tile of outputs."""
    tiles = (side // tile) ** 2
    return 4 * (tiles * (weights + (tile + kernel - 1) ** 2 * width) + side**2 * width)


sizes_of_weights = {"dense": 9 * channels**2, "depthwise": 9 * channels, "pointwise": channels**2}
print("tile       dense MB   separable MB   dense over separable")
for tile in (1, 2, 4, 7, 14, 28, 56):
    apart = tiled_bytes(56, 3, sizes_of_weights["depthwise"], tile)
    apart += tiled_bytes(56, 1, sizes_of_weights["pointwise"], tile)
    together = tiled_bytes(56, 3, sizes_of_weights["dense"], tile)
    print(f"{tile:2} x {tile:<2}{together / 1e6:13.1f}{apart / 1e6:13.1f}{together / apart:18.2f}")
assert abs(together / (whole.bytes + 4 * channels * (58**2 - 56**2)) - 1) < 1e-12

# %%
# The first line is the usual claim, the last one ours (with the border of the image). Which of them is
# the time? We measure both layers in both ways: tiles that all use the same weights, which then stay in
# the cache, and tiles whose weights have to be fetched from memory each time, because so many copies of
# them take turns that none stays.
import time

import torch

torch.set_num_threads(1)


def seconds(job, least=3, patience=0.05 if short else 0.3):
    """Return the shortest of a few times."""
    took = []
    while len(took) < least or sum(took) < patience:
        start = time.perf_counter()
        job()
        took.append(time.perf_counter() - start)
    return min(took)


def weights_of(layer):
    """Return new weights: of a dense layer, or of a depthwise and a pointwise one."""
    if layer == "dense":
        return [torch.randn(channels, channels, 3, 3)]
    return [torch.randn(channels, 1, 3, 3), torch.randn(channels, channels, 1, 1)]


def tile_times(layer, tile, rounds=2 if short else 8):
    """Return the usual seconds of a tile with weights from the cache and from memory."""
    size = sum(w.nbytes for w in weights_of(layer))
    copies = (5_000_000 if short else 100_000_000) // size  # together more than the caches hold
    many = [weights_of(layer) for _ in range(copies)]
    patch = torch.randn(1, channels, tile + 2, tile + 2)
    took = {"kept": [], "again": []}
    for _ in range(rounds):  # in turn, because other work on the machine disturbs both
        for name, every in (("kept", many[:1] * copies), ("again", many)):
            each = []
            for weights in every:
                start = time.perf_counter()
                values = patch
                for w in weights:  # a depthwise filter has one group per channel
                    values = torch.nn.functional.conv2d(values, w, groups=channels // w.shape[1])
                each.append(time.perf_counter() - start)
            took[name].append(np.median(each))
    return min(took["kept"]), min(took["again"])


print("tile     layer      fetched   from the cache   from memory   more time")
for tile in (4, 7, 14):
    for layer in ("dense", "separable"):
        fetched = sum(w.nbytes for w in weights_of(layer)) / 1e3
        with torch.inference_mode():
            kept, again = tile_times(layer, tile)
        print(
            f"{tile:2} x {tile:<2}  {layer:10}{fetched:5.0f} kB{1e6 * kept:14.0f} us"
            f"{1e6 * again:11.0f} us{again / kept - 1:11.0%}"
        )

# %%
# The dense layer fetches eight times as many weights, and for small tiles that takes a good part of its
# time. The larger the tile, the more arithmetic there is for the same weights, and the less it matters.
# Good programs choose such tiles, and then our count is the one that remains: what *must* move. With a
# small cache, or with one output at a time, the usual claim is closer.

# %%
# The roofline
# ------------
# A processor has a maximum rate of multiply-adds and a maximum rate of memory traffic. Both are
# quickly measured, here on one core. Arithmetic: the product of two large matrices, a dense or a
# pointwise convolution, whichever is fastest in PyTorch. Memory: a sum over an array much larger than the
# processor's cache.
size = 512 if short else 1024
a, b = torch.randn(size, size), torch.randn(size, size)
conv, mix = (torch.nn.Conv2d(256, 256, k, padding=k // 2, bias=False) for k in (3, 1))
pixels = torch.randn(1, 256, 28, 28)
with torch.inference_mode():
    peak = size**3 / seconds(lambda: a @ b, patience=0.05 if short else 1.0)
    for layer, taps in ((conv, 9), (mix, 1)):
        peak = max(peak, pixels.numel() * 256 * taps / seconds(lambda: layer(pixels)))  # noqa: B023

count = 2**22 if short else 2**25
x, out = torch.ones(count), torch.empty(count)
bandwidth = 2 * x.nbytes / seconds(lambda: torch.add(x, 1, out=out))  # one read, one written
ridge = peak / bandwidth
print(f"multiply-adds       {peak / 1e9:9.1f} billion per second")
print(f"memory              {bandwidth / 1e9:9.1f} billion bytes per second")
print(f"the two meet at     {ridge:9.1f} multiplications per byte")

# %%
# No layer can exceed either rate: at low intensity memory is the limit (the sloping part of the
# roof), at high intensity the arithmetic (the flat part). Where they meet, a layer uses the
# machine fully. Now some layers, run by PyTorch, one image at a time:
cases = [(56, 128), (14, 512)] if short else [(112, 64), (56, 128), (28, 256), (14, 512)]
kinds = {
    "dense 3 x 3": (lambda c: torch.nn.Conv2d(c, c, 3, padding=1, bias=False), MAIN, "o"),
    "depthwise 3 x 3": (
        lambda c: torch.nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False), ACCENT, "D",
    ),
    "pointwise": (lambda c: torch.nn.Conv2d(c, c, 1, bias=False), INK, "s"),
}  # fmt: skip
points = {}
print(f"{'':17}{'size':>12}{'per byte':>9}{'time':>11}{'of the roof':>13}")
for name, (make, _, _) in kinds.items():
    for side, width in cases:
        layer = make(width).eval()
        image = torch.randn(1, width, side, side)
        cost = sep.nn.ledger(layer, image.shape).total
        with torch.inference_mode():
            layer(image)
            took = seconds(lambda: layer(image))  # noqa: B023
        intensity = cost.multiplications / cost.bytes
        rate = cost.multiplications / took
        roof = min(peak, bandwidth * intensity)
        points.setdefault(name, []).append((intensity, rate))
        where = f"{side}x{side}x{width}"
        print(f"{name:17}{where:>12}{intensity:9.2f}{1e3 * took:8.2f} ms{rate / roof:13.0%}")

# %%
figure, ax = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
along = np.geomspace(0.3, 300, 200)
ax.plot(along, np.minimum(peak, bandwidth * along) / 1e9, color=MUTED, lw=2)
ax.axvline(ridge, color=MUTED, lw=0.8, ls=":")
for name, (_, colour, mark) in kinds.items():
    where, rates = np.array(points[name]).T
    ax.plot(where, rates / 1e9, mark, color=colour, label=name)
ax.set(
    xscale="log", yscale="log", xlabel="multiplications per byte",
    ylabel="billion multiplications per second", title="the roofline of one core of this machine",
)  # fmt: skip
plain_ticks(ax.xaxis)
plain_ticks(ax.yaxis)
ax.legend(frameon=False, loc="lower right")
ax.spines[["top", "right"]].set_visible(False)

# %%
# The depthwise layers are far to the left, below the sloping part: memory traffic determines their
# time. Layers small enough to stay in the cache may even be above the slope, because the roof was
# measured with arrays that do not fit in the cache. A layer above the flat part only means that
# the machine was busy while the roof was measured: the roof is the best observed rate, not a law.
#
# Consequences for a network
# --------------------------
# The ledger of a network gives both counts, layer by layer. Here they are for MobileNet, summed
# over the kinds of layers. The depthwise layers have few multiplications but much memory traffic.
# The rest, mostly normalisation and ReLUs, hardly multiplies, but reads and writes everything once
# more. This is why fast programs run them together with the preceding convolution.
net = sep.nn.models.create("mobilenet_v1").eval()
ledger = sep.nn.ledger(net, (1, 3, 224, 224), backward=False)
whole = ledger.total
print(f"MobileNet: {whole.macs / 1e6:.0f} million multiply-adds", end=", ")
print(f"{whole.parameters / 1e6:.2f} million parameters")
sums = {"depthwise": [0, 0], "pointwise": [0, 0], "all the rest": [0, 0]}
for layer in ledger.layers:
    name = next((kind for kind in sums if kind in layer.name), "all the rest")
    sums[name][0] += layer.cost.multiplications
    sums[name][1] += layer.cost.bytes
total = np.sum(list(sums.values()), axis=0)
print(f"{'':14}{'multiplications':>16}{'bytes':>8}")
for name, (multiplied, moved) in sums.items():
    print(f"{name:14}{multiplied / total[0]:16.1%}{moved / total[1]:8.1%}")

# %%
# The library draws the same from rates that it measures once: all methods of a plan, here of a disk of
# radius 5, and all layers of a network, both at their predicted times. Passes and the dense filter of the
# disk are on the right of the ridge: arithmetic limits them. FFTs move more bytes per multiplication. Of
# the network, the depthwise layers are on the left and have the lowest rates. (Four of them are far
# left: they have stride 2, and PyTorch copies their input to pad it on one side.)
plan = sep.plan(sep.kernels.disk(5), shape=(2048, 2048), dtype="float32")
figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
sep.plot.roofline(plan, axes[0]).set_title("filters", size=10)
sep.plot.roofline(ledger, axes[1]).set_title("layers of MobileNet", size=10)

# %%
# From bytes to time
# ------------------
# ``sep.nn.fuse`` does so. It folds normalisation into the weights of the convolution before it and
# computes a depthwise convolution, the ReLU and the pointwise convolution block by block, so that
# the values between them stay in the cache. The *program* that results runs the whole network in
# one call. We count the bytes once more, with hooks at the modules that remain. (While a module has
# hooks, it runs on its own, so that they see its inputs and outputs.)
example = torch.randn(1, 3, 224, 224)
if short:  # a narrow network will do
    net = sep.nn.models.create("mobilenet_v1", width=0.25).eval()
    ledger = sep.nn.ledger(net, example.shape, backward=False)
fused, report = sep.nn.fuse(net, example, measure=False)
print(f"fused layers: {len(report.fused)}, the first two:")
for _, what in report.fused[:2]:
    print(f"  {what}")

moved = []


def count(module, inputs, output):
    weights = [*module.parameters(), *module.buffers()]
    moved.append(sum(tensor.nbytes for tensor in (*inputs, output, *weights)))


inside = [f"{name}." for name, _ in report.fused]
free = (torch.nn.Identity, torch.nn.Dropout, torch.nn.Flatten)  # nothing is read or written
hooks = []
for name, module in fused.named_modules():
    is_whole = f"{name}." in inside or not [*module.children()]
    if is_whole and not name.startswith(tuple(inside)) and not isinstance(module, free):
        hooks.append(module.register_forward_hook(count))
with torch.inference_mode():
    fused(example)
for hook in hooks:
    hook.remove()
before = sum(layer.cost.bytes for layer in ledger.layers)
print(f"bytes of the layers one after another  {before / 1e6:8.1f} million")
print(f"bytes of the fused network             {sum(moved) / 1e6:8.1f} million")
print(f"saved                                  {1 - sum(moved) / before:8.0%}")

# %%
# Fewer bytes take less time, as far as memory traffic and calls were what took it. The multiplications
# are nearly the same in both; those of the normalisation are gone. The dense twin of the network, with
# a dense convolution in place of each pair, shows what the separable layers saved in the first place:
twin = sep.nn.models.create("mobilenet_v1", width=0.25 if short else 1.0, dense=True).eval()
networks = {"dense twin": twin, "layer by layer": net, "fused": fused}
took = {}
with torch.inference_mode():
    for name, network in networks.items():
        network(example)
        took[name] = seconds(lambda: network(example))  # noqa: B023
for name, cost in (
    ("dense twin", sep.nn.ledger(twin, example.shape).total),
    ("layer by layer", ledger.total),
):
    print(
        f"{name:15}{cost.multiplications / 1e6:9.0f} million multiplications, {1e3 * took[name]:8.2f} ms"
    )
print(f"{'fused':15}{'nearly as many':>16} multiplications,  {1e3 * took['fused']:8.2f} ms")
