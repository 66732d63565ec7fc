"""
12. Transactions in time
========================

A convolution along time detects sequences. A sequence is what identifies a stolen card: first a
few tiny charges in quick succession, to see whether the card works, then something expensive. Each
of these is common; their order is not. Here a separable network learns the order.
"""

# %%
# Synthetic cards
# ---------------
# For each transaction of a card we know the amount (log), the pause before it (log) and whether it
# was online. Owners also buy cheap things in a row, expensive things, and cheap things after an
# expensive one. Only thieves use the opposite order.
import sys

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import nn

import separable as sep
from separable.plot.style import ACCENT, MAIN, MUTED, PALE
from separable.nn.models import SeriesClassifier

short = "--short" in sys.argv  # the form that takes seconds: less training, worse networks
torch.set_num_threads(1)  # networks this small gain nothing from a second one
CHANNELS = ("amount", "pause", "online")
LENGTH = 32
CARDS, STEPS = (500, 15) if short else (8000, 500)
SEEDS = (0, 1) if short else (0, 1, 2)
HONEST = ("errands", "dear", "dear, then cheap")


def write(event, card, rng):
    """Write what happens over the first transactions of `card` (channels, time)."""
    cheap, dear = [-1.5] * rng.integers(2, 5), [1.5] * rng.integers(1, 3)
    amounts = np.array(
        {
            "theft": cheap + dear,
            "dear, then cheap": dear + cheap,
            "errands": cheap + cheap[:2],
            "dear": dear,
        }[event]
    )
    count = len(amounts)
    card[0, :count] = amounts + rng.normal(0, 0.4, count)
    card[1, :count] = rng.normal(-3, 0.7, count)  # quickly after each other
    card[2, :count] = rng.random(count) < 0.7


def cards(count, rng):
    """Return series (cards, channels, time), whether each was stolen, and when."""
    stolen = rng.permutation(count) < 0.03 * count
    series = rng.normal(0, 1, (count, len(CHANNELS), LENGTH))
    series[:, 2] = rng.random((count, LENGTH)) < 0.4
    begins = np.full(count, -1)
    for number, card in enumerate(series):
        places = rng.permutation(np.arange(0, LENGTH - 7, 8))
        events = list(rng.choice(HONEST, rng.integers(0, 3)))
        if stolen[number]:
            events.insert(0, "theft")
            begins[number] = places[0]
        for event, start in zip(events, places, strict=False):
            write(event, card[:, start:], rng)
    return series.astype("float32"), stolen, begins


rng = np.random.default_rng(0)
train, train_stolen, _ = cards(CARDS, rng)
test, test_stolen, test_begins = cards(CARDS, rng)
print(f"{CARDS} cards for training, {train_stolen.sum()} of them stolen; as many for the test")

# %%
fig, axes = plt.subplots(2, 1, figsize=(7.2, 4.4), layout="constrained", sharex=True)
for ax, at, name in ((axes[0], 0, "stolen"), (axes[1], 0, "honest")):
    chosen = np.flatnonzero(test_stolen == (name == "stolen"))[at]
    ax.bar(range(LENGTH), test[chosen, 0], color=MAIN, label="amount (log)")
    ax.plot(range(LENGTH), test[chosen, 1], ".-", color=ACCENT, label="pause before (log)")
    ax.set_title(f"a card that is {name}", size=10)
    if name == "stolen":
        begin = test_begins[chosen]
        ax.axvspan(begin - 0.5, begin + 5.5, color=PALE, zorder=0, label="the theft")
axes[1].set_xlabel("transaction")
handles, names = axes[0].get_legend_handles_labels()
legend = fig.legend(handles, names, loc="outside lower center", frameon=False, ncols=3)

# %%
# Twins
# -----
# Residual blocks of convolutions along time, each with twice the dilation of the one before, so
# that a few layers cover much of the series:


def network(dense):
    """A classifier with a single output: how likely the card is stolen."""
    return SeriesClassifier(
        len(CHANNELS), 1, width=32, depth=2, kernel_size=5, dropout=0, dense=dense
    )


nets = {"dense": [], "separable": []}
for name, found in nets.items():
    for seed in SEEDS:
        torch.manual_seed(seed)
        found.append(network(name == "dense"))
    total = sep.nn.ledger(found[0], (1, len(CHANNELS), LENGTH), backward=False).total
    print(f"{name:10} {total.multiplications:8,} multiplications {total.parameters:7,} parameters")
print("one feature depends on", nets["separable"][0].receptive_field, "steps")

# %%
# In one dimension a kernel has few positions, so less can be saved than in images: with K taps and
# C_out output channels, ``C_out K / (K + C_out)``. For these layers
print(f"{32 * 5 / (5 + 32):.2f} times, and in a volume with as many taps per axis"
      f" {32 * 5**3 / (5**3 + 32):.1f} times")  # fmt: skip

# %%
# Training
# --------
# With so few thefts a network that never finds one is nearly always right, so a theft has a larger
# weight. The result of a training depends on the initial weights and on the order of the cards, so
# each network is trained with several seeds:
series, wanted = torch.from_numpy(train), torch.from_numpy(train_stolen.astype("float32"))
weight = torch.tensor(10.0)


def learn(net, seed):
    """Train a network; return its losses."""
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    chance = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(STEPS):
        batch = torch.randint(CARDS, (128,), generator=chance)
        loss = nn.functional.binary_cross_entropy_with_logits(
            net(series[batch])[:, 0], wanted[batch], pos_weight=weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    net.eval()
    return losses


for name, found in nets.items():
    losses = np.mean([learn(net, seed) for net, seed in zip(found, SEEDS, strict=True)], axis=0)
    print(
        f"{name:10} loss {np.mean(losses[:10]):.3f} at first, {np.mean(losses[-10:]):.3f} at last"
    )

# %%
# How many are found
# ------------------
# For the same reason accuracy is not informative here. A bank asks: of the cards that we block,
# how many are stolen (precision), and how many of the stolen ones are among them (recall)? The
# average precision is the area under that curve; for guessing it is the share of stolen cards.


def suspicion(net, series):
    """Return the network's output for each card."""
    with torch.no_grad():
        return net(torch.from_numpy(series))[:, 0].numpy()


def average_precision(found, series):
    """Return the average precision of the networks of all seeds, as mean ± standard deviation."""
    each = [average_precision_score(test_stolen, suspicion(net, series)) for net in found]
    return f"{np.mean(each):.3f} ± {np.std(each, ddof=1):.3f}"


linear = LogisticRegression(max_iter=500).fit(train.reshape(CARDS, -1), train_stolen)
linear_score = linear.decision_function(test.reshape(CARDS, -1))
for name, found in nets.items():
    print(f"{name:10} average precision {average_precision(found, test)} ({len(SEEDS)} seeds)")
print(f"linear     average precision {average_precision_score(test_stolen, linear_score):.3f}")
print(f"guessing   average precision {test_stolen.mean():.3f}")

# %%
# The curves for the first seed:
scores = {name: suspicion(found[0], test) for name, found in nets.items()} | {
    "linear": linear_score
}
fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
colours = (MAIN, ACCENT, MUTED)
for (name, score), colour in zip(scores.items(), colours, strict=True):
    precision, recall, _ = precision_recall_curve(test_stolen, score)
    ax.plot(100 * recall, 100 * precision, color=colour, label=name)
ax.set(xlabel="stolen cards that are found (%)", ylabel="blocked cards that were stolen (%)")
ax.legend(frameon=False)

# %%
# Only the order is informative
# -----------------------------
# To see what a network uses, remove it. The same test cards with their transactions shuffled:
# every amount and every pause is still there, in another order. Then each series reversed in time.
shuffled = np.stack([card[:, rng.permutation(LENGTH)] for card in test])
for name, found in nets.items():
    print(f"{name:10}", end="")
    for how, changed in (("shuffled", shuffled), ("reversed", test[:, :, ::-1].copy())):
        print(f"  {how} {average_precision(found, changed)}", end="")
    print()

# %%
# Which inputs matter
# -------------------
# The gradient of the output with respect to the input says how much the output depends on each
# number of a card. Its magnitude, averaged over the stolen cards, with the thefts aligned:
moved = torch.from_numpy(test[test_stolen]).requires_grad_()
nets["separable"][0](moved).sum().backward()
size = moved.grad.abs().sum(1).numpy()
around = np.arange(-8, 14)
profile = [
    np.mean([s[b + at] for s, b in zip(size, test_begins[test_stolen], strict=True)
             if 0 <= b + at < LENGTH])
    for at in around
]  # fmt: skip
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.axvspan(-0.5, 5.5, color=PALE, alpha=0.6, label="the theft, at most")
ax.bar(around, profile, color=MAIN)
ax.set(xlabel="transactions after the theft begins", ylabel="size of the gradient")
ax.legend(frameon=False)
within = np.mean([p for p, at in zip(profile, around, strict=True) if 0 <= at < 6])
elsewhere = np.mean([p for p, at in zip(profile, around, strict=True) if not 0 <= at < 6])
print(f"within the theft {within:.3f} on average, elsewhere {elsewhere:.3f}")
