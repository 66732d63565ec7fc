"""
6. Depthwise and pointwise convolutions
=======================================

A convolution layer of a network combines a neighbourhood and all channels at once. Its weights
have two channel axes besides the spatial axes, and they can be written as a product, too: first
each channel is filtered on its own, *depthwise*, then the channels are combined at each pixel,
*pointwise*. This lesson counts the example that most introductions use, and runs it.
"""

# %%
# The usual example
# -----------------
# An image of 12 x 12 pixels and 3 channels, 256 filters of 5 x 5, no padding. Each filter is
# applied at 8 x 8 positions.
import torch

import separable as sep

dense = sep.cost.conv((12, 12, 3), (5, 5), 256)
parts = sep.cost.factor_costs((12, 12, 3), (5, 5), 256, "ocyx -> oc,cyx")
depthwise, pointwise = (cost.multiplications for cost in parts.values())
print(f"dense      {dense.multiplications:9,}")
print(f"depthwise  {depthwise:9,}")
print(f"pointwise  {pointwise:9,}")
print(f"together   {depthwise + pointwise:9,}")
print(f"ratio      {dense.multiplications / (depthwise + pointwise):9.1f}")

# %%
# The corresponding pattern is ``ocyx -> oc,cyx``: weights with output channels, input channels and
# two spatial axes are the product of a matrix ``oc`` and one small filter per input channel,
# ``cyx``.
#
# We can also count while the layers run. This short program computes one position after the other
# and counts its multiplications:
import numpy as np


def run(image, weights):
    """Convolve ``(c, y, x)`` with ``(o, c, y, x)``; return the result and the multiplications."""
    outputs, _, *size = weights.shape
    high, wide = (n - k + 1 for n, k in zip(image.shape[1:], size, strict=True))
    result, count = np.zeros((outputs, high, wide)), 0
    for y, x in np.ndindex(high, wide):
        products = weights * image[:, y : y + size[0], x : x + size[1]]
        result[:, y, x] = products.sum(axis=(1, 2, 3))
        count += products.size
    return result, count


rng = np.random.default_rng(0)
image = rng.standard_normal((3, 12, 12))
filters = rng.standard_normal((3, 5, 5))  # one for each channel
mixing = rng.standard_normal((256, 3))

channels, counts = zip(
    *(run(image[c : c + 1], filters[None, c : c + 1]) for c in range(3)), strict=True
)
middle = np.concatenate(channels)
separated, count = run(middle, mixing[:, :, None, None])
print("image", image.shape, "-> depthwise", middle.shape, "-> pointwise", separated.shape)
print(f"multiplied {sum(counts):,} + {count:,} = {sum(counts) + count:,} times")

whole, count = run(image, mixing[:, :, None, None] * filters)
print(f"with the product of the two as one dense layer {count:,} times")
print(f"largest difference: {np.abs(whole - separated).max():.1e}")

# %%
# Common mistakes
# ---------------
# The example has been copied many times, sometimes with mistakes. Here are the wrong figures
# beside the correct ones.
same = sep.cost.separable((12, 12, 3), (5, 5), 256, padding="same").multiplications
print(f"the sum is {depthwise + pointwise:,}, where 52,952 is printed")
print(f"the output is {separated.shape[1]} x {separated.shape[2]} x 256, not 12 x 12 x 256:")
print(f"   with padding it would be that, and then cost {same:,} multiplications")

# %%
# Another example filters 15 x 15 pixels with 3 x 3: in ten filters over three channels, and, for
# one channel, as 3 x 1 and then 1 x 3. The result has 13 x 13 positions. The second pass runs only
# on the output of the first, which is 13 rows of 15; its own output is 13 rows of 13.
ten = sep.cost.conv((15, 15, 3), (3, 3), 10).multiplications
ten_parts = sep.cost.factor_costs((15, 15, 3), (3, 3), 10, "ocyx -> oc,cyx").values()
one, two = (cost.multiplications for cost in ten_parts)
print(f"ten filters: {ten:,} dense; {one:,} + {two:,} = {one + two:,}, ", end="")
print(f"{ten / (one + two):.2f} times fewer")

single = sep.cost.conv((15, 15, 1), (3, 3), 1).multiplications
strips = sep.cost.factor_costs((15, 15, 1), (3, 3), 1, "ocyx -> ocy,ocx").values()
first, second = (cost.multiplications for cost in strips)
print(f"two strips:  {single:,} dense; {first} + {second} = {first + second:,}, ", end="")
print(f"{single / (first + second):.2f} times fewer")
print(f"   {2 * first:,} counts the second strip as if the first had left all 15 rows")
print(f"   13 x 13 is {13 * 13}; {15 * 15} are the pixels of the input")

# %%
# The ratio is sometimes wrong, too. One derivation of dense over separable has letters of its own: M
# input channels and N filters, our C_in and C_out. Its first line is right, and M cancels:
#
# .. code-block:: none
#
#     N K² M / (M (K² + N))  =  N K² / (K² + N)
#
# Two slips follow. The next line, K² M / (K² + N), has M where N belongs. The last line, 1/K² + 1/N,
# is the reciprocal of the right one: it is separable over dense. With the numbers of the first example:
m, n, k = 3, 256, 5
print(f"counted, dense over separable    {dense.multiplications / (depthwise + pointwise):.2f}")
print(f"N K² / (K² + N)                  {n * k**2 / (k**2 + n):.2f}")
print(f"K² M / (K² + N), M for N         {k**2 * m / (k**2 + n):.3f}")
print(f"1/K² + 1/N, separable over dense {1 / k**2 + 1 / n:.4f}")

# %%
# That text concludes from its last line that dense over separable is "always much less than 1". It is
# the other way round: dense costs more. And separable over dense is not always small: it is more than
# 1/C_out, so with three filters it never falls below 1/3, however large the kernel is.
print(f"3 filters, kernel 1024 x 1024: {1 / 1024**2 + 1 / 3:.4f}")

# %%
# Another mistake is not a number: the claim that both give "the same result". They give a result
# of the same *shape*. A dense layer with arbitrary weights computes something else:
torch.manual_seed(0)
seen = torch.randn(1, 3, 12, 12)
conv = torch.nn.Conv2d(3, 256, 5)
layer = sep.nn.SeparableConv2d(3, 256, 5, padding="valid")
with torch.no_grad():
    print("shapes:", tuple(conv(seen).shape), tuple(layer(seen).shape))
    print(f"largest difference: {(conv(seen) - layer(seen)).abs().max():.2f}")

# %%
# The values are equal only if the weights *are* such a product, as in the program above. Separable
# layers are a smaller family of functions, and a network must learn within it.

# %%
# From multiplications to time
# ----------------------------
# 22.8 times fewer multiplications are not 22.8 times less time. For an image as small as this one,
# much of the time is spent on calling PyTorch's operators, and two layers are two calls.
# ``sep.nn.fuse`` compiles a network: here both convolutions become a program that runs in one call.
# We measure one thread, and take the shortest of many calls in turn, because other work on the
# machine only makes a call longer. How large the gain is depends on the machine.
import time

torch.set_num_threads(1)


def shortest(*jobs, rounds=30, calls=10):
    """Return the shortest time of each job in microseconds; the jobs take turns."""
    times = [[] for _ in jobs]
    for _ in range(rounds):
        for took, job in zip(times, jobs, strict=True):
            start = time.perf_counter()
            for _ in range(calls):
                job()
            took.append((time.perf_counter() - start) / calls * 1e6)
    return [min(took) for took in times]


plain = torch.nn.Sequential(
    torch.nn.Conv2d(3, 3, 5, groups=3, bias=False), torch.nn.Conv2d(3, 256, 1)
).eval()
fused, report = sep.nn.fuse(plain, seen, measure=False)
print("fused into one module:", report.fused[0][1])
with torch.no_grad():
    print(f"largest difference: {(fused(seen) - plain(seen)).abs().max():.0e}")
    whole, two, one = shortest(lambda: conv(seen), lambda: plain(seen), lambda: fused(seen))
print(f"dense                       {whole:7.1f} us")
print(f"two layers in PyTorch       {two:7.1f} us, {whole / two:4.1f} times as fast as dense")
print(f"fused                       {one:7.1f} us, {whole / one:4.1f} times as fast as dense")

# %%
# With 256 images per call the calls matter less. What remains is arithmetic, which is saved, and
# memory traffic, which is not: the output with its 256 channels has to be written in any case.
# :ref:`Lesson 7 <sphx_glr_lessons_built_lesson_07_the_cost_curves.py>` counts these bytes, too.
many = torch.randn(256, 3, 12, 12)
with torch.no_grad():
    fused(many)  # the first call with a new shape prepares a program for it
    whole, two, one = shortest(
        lambda: conv(many), lambda: plain(many), lambda: fused(many), rounds=5, calls=1
    )
print(
    f"256 images: dense {whole / 1e3:.2f} ms, two layers {two / 1e3:.2f} ms, fused {one / 1e3:.2f} ms"
)

# %%
# More filters per channel
# ------------------------
# The *depth multiplier* gives each input channel several filters. With two, the depthwise result
# has six channels:
twice = sep.nn.SeparableConv2d(3, 256, 5, padding="valid", depth_multiplier=2)
with torch.no_grad():
    print("depthwise output:", tuple(twice.depthwise(seen).shape))
print("multiplier   multiplications   ratio to dense   weights   closest to the dense layer")
for multiplier in (1, 2, 4, 8, 16, 25):
    cost = sep.cost.separable((12, 12, 3), (5, 5), 256, depth_multiplier=multiplier)
    near = sep.factorize(conv.weight.detach().numpy(), "ocyx -> oc,cyx", rank=multiplier)
    ratio = dense.multiplications / cost.multiplications
    error = f"error {near.error:.1%}" if near.error > 1e-6 else "exact"
    print(
        f"{multiplier:10}{cost.multiplications:18,}{ratio:17.2f}{cost.parameters:10,}   {error:>12}"
    )

# %%
# With enough filters per channel the layer can equal any dense layer: for a 5 x 5 kernel at most
# 25 are needed. Random weights need nearly all of them for a small error; those of a trained
# network often need fewer. :ref:`Lesson 8 <sphx_glr_lessons_built_lesson_08_what_is_lost.py>`
# gives the exact condition.
import matplotlib.pyplot as plt
from separable.plot.style import ACCENT, MAIN

multipliers = range(1, 26)
weights = conv.weight.detach().numpy()
errors = sep.spectrum(weights, "ocyx -> oc,cyx").errors[1:26]
costs = [
    sep.cost.separable((12, 12, 3), (5, 5), 256, depth_multiplier=m).multiplications
    for m in multipliers
]
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
axes[0].plot(multipliers, np.array(costs) / 1e6, "o-", color=MAIN, ms=4)
axes[0].axhline(dense.multiplications / 1e6, color=ACCENT, ls="--")
axes[0].text(1, dense.multiplications / 1e6, "dense", color=ACCENT, va="bottom")
axes[0].set(xlabel="depth multiplier", ylabel="multiplications (millions)", ylim=(0, None))
axes[1].plot(multipliers, errors, "o-", color=MAIN, ms=4)
axes[1].set(xlabel="depth multiplier", ylabel="relative error of the weights", ylim=(0, None))
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)

# %%
# 1 x 1 kernels
# -------------
# The pointwise part is a convolution with 1 x 1 kernels: a matrix that is applied at each pixel.
# Two of them in sequence are equivalent to one, because the product of two matrices is a matrix:
one = torch.nn.Conv2d(3, 16, 1, bias=False)
two = torch.nn.Conv2d(16, 8, 1, bias=False)
product = torch.nn.Conv2d(3, 8, 1, bias=False)
with torch.no_grad():
    product.weight[:] = (two.weight[..., 0, 0] @ one.weight[..., 0, 0])[..., None, None]
    difference = (two(one(seen)) - product(seen)).abs().max()
print(f"two 1 x 1 layers against one: largest difference {difference:.1e}")

# %%
# With a *nonlinearity* between them this is no longer true. A test: the output of a linear layer
# for the sum of two images is the sum of its outputs. With a ReLU between the matrices it is not,
# and no single matrix can do the same. This is the purpose of 1 x 1 layers in a network: a small
# function applied to each pixel.
other = torch.randn_like(seen)
with_relu = torch.nn.Sequential(one, torch.nn.ReLU(), two)
with torch.no_grad():
    for name, net in (("without", torch.nn.Sequential(one, two)), ("with a ReLU", with_relu)):
        gap = (net(seen + other) - net(seen) - net(other)).abs().max()
        print(f"{name:12} f(a + b) differs from f(a) + f(b) by {gap:.1e}")

# %%
# The same holds between the depthwise and the pointwise convolution. MobileNet has a ReLU there,
# Xception has none. With it the layer is not a factorised dense layer, so asking for the dense
# weights raises an error:
import textwrap

between = sep.nn.SeparableConv2d(3, 8, 5, intermediate=torch.nn.ReLU())
try:
    between.to_dense()
except sep.errors.SeparableError as error:
    print(textwrap.fill(str(error), 80))
