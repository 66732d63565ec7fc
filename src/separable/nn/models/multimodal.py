"""One body of separable convolutions for images, texts and sounds, with a head per task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn.models._blocks import (
    ChannelNorm,
    StridedConv2d,
    initialise_network,
    positive,
    separable_or_dense,
    share,
)
from separable.nn.models._network import Network

__all__ = ["MultiModalNet"]

MODALITIES = ("image", "audio", "text")  # their order in the joint sequence
STEPS = ((3, 1), (3, 1), (15, 1), (15, 8))  # kernel and dilation of the convolutions of a block
TASKS = MappingProxyType({"objects": 1000, "commands": 35, "sentiment": 2})


class MultiModalNet(Network):
    """Classifier of images, spectrograms and texts, alone or together, with one body for all.

    Each modality has a small net that turns its input into a sequence of features. The sequences
    stand one after the other, the body filters the whole, and each task has a linear head on the
    mean.

    Parameters
    ----------
    tasks : mapping of str to int
        The classes of each task.
    width : int
        Channels of the joint sequence.
    depth : int
        Blocks of the body, each of four convolutions.
    vocabulary : int
        Different tokens of a text. Token 0 is padding: it adds nothing, however much of it there
        is at the end.
    in_channels : int
        Channels of images; spectrograms have one.
    dropout : float
        After each block.
    dense : bool
        Build the dense twin: one convolution for each separable one, in nets and body.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Inputs: images ``(N, in_channels, y, x)``, spectrograms ``(N, 1, frequency, t)``, texts
    ``(N, t)`` of whole numbers; any of them, at least one. Output: logits ``(N, classes)`` for each
    task.

    References
    ----------
    In the spirit of Kaiser et al. (2017), "One model to learn them all", arXiv:1706.05137: its
    nets for each modality, its convolution blocks and its joint representation. Without its
    attention, its mixture of experts and its decoder: the tasks here are classifications.

    Examples
    --------
    >>> import torch
    >>> net = MultiModalNet({"digits": 10, "mood": 2}, width=32, depth=1, vocabulary=100).eval()
    >>> net(image=torch.zeros(4, 3, 32, 32))["digits"].shape
    torch.Size([4, 10])
    >>> both = net(text=torch.ones(4, 20, dtype=torch.long), audio=torch.zeros(4, 1, 64, 50))
    >>> {task: tuple(logits.shape) for task, logits in both.items()}
    {'digits': (4, 10), 'mood': (4, 2)}
    """

    def __init__(
        self,
        tasks: Mapping[str, int] = TASKS,
        *,
        width: int = 256,
        depth: int = 4,
        vocabulary: int = 8192,
        in_channels: int = 3,
        dropout: float = 0.1,
        dense: bool = False,
    ) -> None:
        super().__init__(
            (in_channels, 128, 128), "images",
            tasks=dict(tasks), width=width, depth=depth, vocabulary=vocabulary,
            in_channels=in_channels, dropout=dropout, dense=dense,
        )  # fmt: skip
        if not tasks:
            raise ArgumentError("`tasks` must name at least one task and its classes; got {}")
        positive(width=width, depth=depth, vocabulary=vocabulary, in_channels=in_channels)
        positive(**{f"tasks[{name!r}]": classes for name, classes in tasks.items()})
        share(dropout=dropout)
        self.image = _Picture(in_channels, width, dense)
        self.audio = _Picture(1, width, dense)
        self.text = nn.Embedding(vocabulary, width, padding_idx=0)
        self.kind = nn.Embedding(len(MODALITIES), width)
        self.body = nn.ModuleList(_Block(width, dropout, dense) for _ in range(depth))
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in tasks.items()})
        initialise_network(self)

    def forward(
        self, image: Tensor | None = None, audio: Tensor | None = None, text: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the logits ``(N, classes)`` of each task."""
        inputs = {"image": image, "audio": audio, "text": text}
        self._check(inputs)
        # Step 1: a sequence (N, c, t) and where it holds something (N, 1, t), for each modality.
        parts, masks = [], []
        for i, (name, value) in enumerate(inputs.items()):
            if value is None:
                continue
            features = getattr(self, name)(value)
            features = features.movedim(2, 1) if name == "text" else features.flatten(2)
            there = features.new_ones(features.shape[0], 1, features.shape[2])
            masks.append((value != 0).unsqueeze(1).to(features.dtype) if name == "text" else there)
            parts.append(features + self.kind.weight[i].unsqueeze(1))
        # Step 2: all of them through the body.
        mask = torch.cat(masks, dim=2)
        x = torch.cat(parts, dim=2) * mask
        for block in self.body:
            x = block(x, mask)
        # Step 3: the mean over what is there, and a head for each task.
        mean = x.sum(2) / mask.sum(2).clamp(min=1)
        return {name: head(mean) for name, head in self.heads.items()}

    def example(self, batch: int = 1, resolution: int | None = None) -> tuple[Tensor, ...]:
        """Return one image, one spectrogram of a second and one text of 32 tokens, as `batch`."""
        (image,) = super().example(batch, resolution)
        tokens = torch.ones(batch, 32, dtype=torch.long, device=image.device)
        return image, image.new_zeros(batch, 1, 64, 100), tokens

    def _check(self, inputs: Mapping[str, Tensor | None]) -> None:
        given = {name: value for name, value in inputs.items() if value is not None}
        if not given:
            raise ArgumentError("`MultiModalNet` expects an image, audio or text; got none")
        if "image" in given:
            self.check(given["image"])
        audio, text = given.get("audio"), given.get("text")
        if audio is not None and (audio.ndim != 4 or audio.shape[1] != 1):
            raise ArgumentError(
                f"`audio` must be spectrograms (N, 1, frequency, t); got shape {tuple(audio.shape)}"
            )
        if text is not None and (text.ndim != 2 or text.is_floating_point()):
            kind = ArgumentTypeError if text.is_floating_point() else ArgumentError
            raise kind(
                f"`text` must be tokens (N, t) of whole numbers; got {text.dtype} of shape "
                f"{tuple(text.shape)}"
            )
        sizes = {name: value.shape[0] for name, value in given.items()}
        if len(set(sizes.values())) > 1:
            raise ArgumentError(f"all inputs must be as many samples; got {sizes}")


class _Picture(nn.Module):
    """Image or spectrogram to a feature map, 16 times smaller, in three strided blocks."""

    def __init__(self, channels: int, width: int, dense: bool) -> None:
        super().__init__()
        widths = (max(8, width // 8), max(8, width // 4), max(8, width // 2), width)
        self.stem = nn.Sequential(
            StridedConv2d(channels, widths[0], 3, 2, bias=False), ChannelNorm(widths[0]), nn.ReLU()
        )
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(_Halve(a, b, dense) for a, b in pairs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.stem(x))
        return out


class _Halve(nn.Module):
    """Two separable convolutions, the second of stride 2, and a strided shortcut."""

    def __init__(self, before: int, after: int, dense: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            separable_or_dense(2, before, after, 3, dense=dense), ChannelNorm(after), nn.ReLU(),
            separable_or_dense(2, after, after, 3, stride=2, dense=dense), ChannelNorm(after),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(before, after, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class _Block(nn.Module):
    """Four convolutions of the sequence, with a shortcut around each two (section 2.1)."""

    def __init__(self, width: int, dropout: float, dense: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            separable_or_dense(1, width, width, kernel, dilation=dilation, dense=dense)
            for kernel, dilation in STEPS
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in STEPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        shortcut = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(torch.relu(x))) * mask
            if i % 2:
                x = shortcut = x + shortcut
        out: Tensor = self.dropout(x)
        return out
