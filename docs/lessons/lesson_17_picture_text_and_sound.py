"""
17. Picture, text and sound
===========================

One network can read pictures, texts and sounds together. Three small nets turn each of them into a
sequence, the sequences are put one after the other, and one body of separable convolutions filters
the whole. We train it on samples whose truth is known, and ask what each modality adds.
"""

# %%
# Samples that need all three
# ---------------------------
# A sample is one of eight things, told apart by three properties: the *picture* shows a disk or a
# cross, the *sound* rises or falls, the *text* says that the thing is old or new. Every second text
# also names the shape. So no modality alone is enough, and we know how much each can tell at most.
import sys
import textwrap

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import nn

import separable as sep
from separable.nn.models import MultiModalNet
from separable.plot.style import MAIN, PALE, colour_scale

short = "--short" in sys.argv  # the form that takes seconds: less training, a worse network
torch.set_num_threads(1)  # a network this small gains nothing from a second one
TRAIN, TEST, STEPS, BATCH = (64, 64, 6, 8) if short else (2000, 500, 1600, 32)
SIDE, RATE, LENGTH, TOKENS = 32, 4000, 2048, 12
WORDS = [
    "", "the", "a", "is", "it", "looks", "very", "thing", "here", "old", "new", "round", "crossed",
]  # fmt: skip
THINGS = [
    f"{age} {shape}, {sound}"
    for shape in ("disk", "cross") for sound in ("rising", "falling") for age in ("old", "new")
]  # fmt: skip

# What can tell each property:
TELLS = {"shape": ("image", "text"), "sound": ("audio",), "age": ("text",)}


def picture(rng, crossed):
    """Return a picture (3, y, x): a disk or a cross of some colour at some place, in noise."""
    y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(10, 22, 2)[:, None, None]
    size = rng.uniform(5, 9)
    if crossed:
        inside = (np.minimum(abs(y), abs(x)) < size / 3) & (np.maximum(abs(y), abs(x)) < size)
    else:
        inside = np.hypot(y, x) < size
    colour = rng.uniform(0.4, 1, 3)[:, None, None]
    return (inside * colour + rng.normal(0, 0.15, (3, SIDE, SIDE)) - 0.1) / 0.3


def sound(rng, falling):
    """Return the spectrogram (1, frequency, t) of a tone that rises or falls, in noise."""
    t = np.arange(LENGTH) / RATE
    low, high = rng.uniform(300, 700), rng.uniform(900, 1500)
    first, last = (high, low) if falling else (low, high)
    phase = 2 * np.pi * (first * t + (last - first) * t**2 / (2 * t[-1]))
    wave = np.sin(phase) + rng.normal(0, 0.5, LENGTH)
    frames = np.lib.stride_tricks.sliding_window_view(wave, 64)[::64]  # (t, samples)
    power = np.abs(np.fft.rfft(frames * np.hanning(64), axis=1))[:, 1:].T
    return (np.log1p(power)[None] - 1.0) / 0.8


def text(rng, new, crossed):
    """Return the numbers of the words of a sentence; every second one names the shape."""
    said = [rng.choice(["the", "a"]), "thing", "is"] + ["very"] * rng.integers(0, 3)
    said += ["new" if new else "old"]
    if rng.integers(2):
        said += ["it", "looks", "crossed" if crossed else "round"]
    return [WORDS.index(w) for w in said] + [0] * (TOKENS - len(said))


def samples(rng, count):
    """Return pictures, spectrograms, texts and classes."""
    classes = rng.integers(0, 8, count)
    bits = [(c >> 2 & 1, c >> 1 & 1, c & 1) for c in classes]  # shape, sound, age
    pictures = np.stack([picture(rng, shape) for shape, _, _ in bits])
    sounds = np.stack([sound(rng, falling) for _, falling, _ in bits])
    texts = np.array([text(rng, age, shape) for shape, _, age in bits])
    parts = {"image": pictures.astype("float32"), "audio": sounds.astype("float32"), "text": texts}
    answers = {name: torch.tensor([b[k] for b in bits]) for k, name in enumerate(TELLS)}
    return {k: torch.from_numpy(v) for k, v in parts.items()}, answers


rng = np.random.default_rng(0)
inputs, answers = samples(rng, TRAIN)
unseen, truth = samples(rng, TEST)
for name, values in inputs.items():
    print(f"{name:6}{tuple(values.shape[1:])!s:14}", end="")
    print(" ".join(WORDS[t] for t in values[0] if t) if name == "text" else "")

# %%
figure, axes = plt.subplots(2, 4, figsize=(9.6, 4.6), layout="constrained")
loudness = 1.0 + 0.8 * inputs["audio"][:4, 0].numpy()  # log(1 + power), as before normalisation
for column, one in zip(axes.T, (0, 1, 2, 3), strict=True):
    words = textwrap.fill(" ".join(WORDS[t] for t in inputs["text"][one] if t), 24)
    column[0].imshow(inputs["image"][one].movedim(0, 2).mul(0.3).clip(0, 1).numpy())
    thing = THINGS[sum(answers[name][one].item() << 2 - k for k, name in enumerate(TELLS))]
    column[0].set_title(f"{thing}\n“{words}”", size=8)
    drawn = column[1].imshow(loudness[one], origin="lower", aspect="auto", **colour_scale(loudness))
    column[0].set_axis_off()
    column[1].set(xticks=[], yticks=[], xlabel="time")
axes[1, 0].set_ylabel("frequency")
bar = figure.colorbar(drawn, ax=axes[1], shrink=0.9, label="log(1 + power)")

# %%
# The network
# -----------
# It has a head for each of the three properties. Its multiplications, and those of the dense twin, for
# one picture, one sound and one text:
torch.manual_seed(0)
options = {"width": 32, "depth": 1, "vocabulary": len(WORDS), "dropout": 0.0}
net = MultiModalNet(dict.fromkeys(TELLS, 2), **options)
shapes = [inputs[name][:1] for name in ("image", "audio", "text")]
for name, model in (("separable", net), ("dense", net.twin())):
    total = sep.nn.ledger(model, shapes, backward=False).total
    print(f"{name:10}{total.macs:12,} multiply-adds{total.parameters:10,} parameters")

# %%
# Where they are, module by module (``separable cost`` and a ledger call this depth):
for layer in sep.nn.ledger(net, shapes, backward=False).merged(1).layers:
    if layer.cost.macs:
        print(f"  {layer.name:8}{layer.cost.macs:12,}")

# %%
# Training
# --------
# The network must work with whatever it is given. So each step shows it a random choice of the
# modalities, at least one, and asks for the properties that these can tell.
NAMES = ("image", "audio", "text")
SUBSETS = [[n for k, n in enumerate(NAMES) if code >> k & 1] for code in range(1, 8)]
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
chance = torch.Generator().manual_seed(0)
losses = []
for _ in range(STEPS):
    batch = torch.randint(TRAIN, (BATCH,), generator=chance)
    given = SUBSETS[torch.randint(7, (1,), generator=chance).item()]
    logits = net(**{name: inputs[name][batch] for name in given})
    asked = [name for name, tellers in TELLS.items() if set(tellers) & set(given)]
    each = [nn.functional.cross_entropy(logits[n], answers[n][batch]) for n in asked]
    loss = sum(each) / len(each)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
net.eval()
print(f"loss {np.mean(losses[:10]):.2f} at first, {np.mean(losses[-50:]):.2f} at last")

# %%
# What each modality adds
# -----------------------
# A sample counts as right if all three properties are. The best that anybody could do follows from
# counting: a property that is not known is guessed, and right in half of the cases. The picture tells
# the shape, the sound its direction, the text the age and, in every second case, the shape.


def attainable(given):
    """Return the largest share of right answers with these modalities."""
    shape = 1.0 if "image" in given else 0.75 if "text" in given else 0.5
    return shape * (1.0 if "audio" in given else 0.5) * (1.0 if "text" in given else 0.5)


def right(given):
    """Return the share of unseen samples of which all three properties are right."""
    with torch.no_grad():
        logits = net(**{name: unseen[name] for name in given})
    every = torch.stack([logits[name].argmax(1) == truth[name] for name in TELLS])
    return every.all(0).double().mean().item()


shares = {tuple(given): right(given) for given in SUBSETS}
print(f"{'given':24}{'right':>8}{'at most':>10}")
for given, share in shares.items():
    print(f"{', '.join(given):24}{share:8.1%}{attainable(given):10.1%}")

# %%
# What is lost without one of them, of what all three give:
everything = shares[NAMES]
for name in NAMES:
    rest = tuple(n for n in NAMES if n != name)
    lost, least = everything - shares[rest], 1 - attainable(rest)
    print(f"without {name:6}{100 * lost:6.1f} points, {100 * least:.1f} points expected")

# %%
# Sound and text add most, because nothing else tells the direction and the age. The picture adds half as
# much, because every second text names the shape, too.
figure, ax = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
labels = [" + ".join(given) for given in shares]
ax.barh(labels, [attainable(given) for given in shares], color=PALE, label="at most")
ax.barh(labels, list(shares.values()), height=0.5, color=MAIN, label="the network")
ax.invert_yaxis()
ax.set(xlabel="share of right answers", xlim=(0, 1.02))
ax.legend(frameon=False, loc="upper right")
ax.spines[["top", "right"]].set_visible(False)
