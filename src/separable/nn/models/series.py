"""Network of dilated convolutions for time series, such as the transactions of an account."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.depthwise import PointwiseConv
from separable.nn.models._blocks import (
    ChannelNorm,
    initialise_network,
    make_norm,
    positive,
    separable_or_dense,
    share,
)
from separable.nn.models._network import Network

__all__ = ["SeriesClassifier"]


class SeriesClassifier(Network):
    """Classifier of a series as a whole, or of each step from all steps up to it.

    Parameters
    ----------
    in_channels : int
        Numbers known of each step: amount, pause, place ...
    classes : int
        2, or 1 for a single logit.
    width, depth, kernel_size : int
        Channels, blocks, and steps seen at once. Block `i` sees steps ``2**i`` apart.
    per : str
        "series": one answer, from the largest and the mean value of each feature over time: an
        event of few steps shows in the largest, a habit in the mean. "step": an answer at each
        step, which never depends on later steps.
    dropout : float
        Dropout probability in each block.
    norm : str
        "group", which does not depend on the batch, or "batch". A "step" network has neither over
        time, which would look ahead: each step is normalised by itself.
    dense : bool
        Build the dense twin: one convolution for each separable one.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Attributes
    ----------
    receptive_field : int
        Number of steps that one feature depends on.

    Notes
    -----
    Input ``(N, in_channels, t)``; output ``(N, classes)`` or, for each step, ``(N, classes, t)``:
    logits.

    References
    ----------
    The residual blocks of growing dilation are those of Bai, Kolter and Koltun (2018),
    arXiv:1803.01271, made separable as in Kaiser, Gomez and Chollet (2018), arXiv:1706.03059.

    Examples
    --------
    >>> import torch
    >>> net = SeriesClassifier(6, classes=1).eval()
    >>> net(torch.zeros(32, 6, 48)).shape, net.receptive_field
    (torch.Size([32, 1]), 125)

    >>> net = SeriesClassifier(6, per="step").eval()
    >>> net(torch.zeros(32, 6, 48)).shape
    torch.Size([32, 2, 48])
    """

    def __init__(
        self,
        in_channels: int = 8,
        classes: int = 2,
        *,
        width: int = 64,
        depth: int = 4,
        kernel_size: int = 5,
        per: str = "series",
        dropout: float = 0.1,
        norm: str = "group",
        dense: bool = False,
    ) -> None:
        super().__init__(
            (in_channels, 128), "series",
            in_channels=in_channels, classes=classes, width=width, depth=depth,
            kernel_size=kernel_size, per=per, dropout=dropout, norm=norm, dense=dense,
        )  # fmt: skip
        if per not in ("series", "step"):
            raise ArgumentError(f'`per` must be "series" or "step"; got {per!r}')
        positive(in_channels=in_channels, classes=classes, width=width)
        positive(depth=depth, kernel_size=kernel_size)
        share(dropout=dropout)
        self.causal = per == "step"
        kind = "step" if self.causal else norm
        self.stem = nn.Sequential(
            *_conv(in_channels, width, kernel_size, 1, causal=self.causal, dense=True),
            _norm(kind, width), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.Sequential(
            *(_Block(width, kernel_size, 2**i, kind, dropout, dense) for i in range(depth))
        )
        self.head = (
            PointwiseConv(width, classes, ndim=1) if self.causal else nn.Linear(2 * width, classes)
        )
        self.receptive_field = 1 + (kernel_size - 1) * (1 + 2 * (2**depth - 1))
        initialise_network(self)

    def forward(self, series: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` or ``(N, classes, t)`` of series ``(N, in_channels, t)``."""
        self.check(series)
        features = self.blocks(self.stem(series))
        if not self.causal:
            features = torch.cat([features.amax(2), features.mean(2)], dim=1)
        logits: Tensor = self.head(features)
        return logits


class _Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(
        self, width: int, kernel: int, dilation: int, norm: str, dropout: float, dense: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += _conv(width, width, kernel, dilation, causal=norm == "step", dense=dense)
            layers += [_norm(norm, width), nn.ReLU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def _conv(
    before: int, after: int, kernel: int, dilation: int, *, causal: bool, dense: bool
) -> list[nn.Module]:
    """Return one convolution along time; a causal one is padded before the first step only."""
    conv = separable_or_dense(
        1, before, after, kernel, dilation=dilation, dense=dense,
        padding="valid" if causal else "same",
    )  # fmt: skip
    return [nn.ConstantPad1d(((kernel - 1) * dilation, 0), 0.0), conv] if causal else [conv]


def _norm(name: str, channels: int) -> nn.Module:
    return ChannelNorm(channels) if name == "step" else make_norm(name, 1, channels)
