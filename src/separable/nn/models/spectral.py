"""Network of spatial-spectral convolutions for hyperspectral cubes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from separable.nn.depthwise import PointwiseConv
from separable.nn.models._blocks import (
    StridedConv3d,
    initialise_network,
    make_norm,
    positive,
    share,
)
from separable.nn.models._network import Network
from separable.nn.spatial import SpatialSpectralConv3d

__all__ = ["SpatialSpectralNet"]


@dataclass(frozen=True)
class Stage:
    """One convolution of the cube: kernel size and stride along the bands, and output channels."""

    bands: int
    step: int
    widen: int


SPACE = 3  # pixels along each side of the kernel
BETWEEN = 4  # output channels per channel between the two passes,
LEAST = 4  # and the smallest number of these
STAGES = (Stage(7, 2, 1), Stage(5, 2, 2), Stage(3, 2, 4))


class SpatialSpectralNet(Network):
    """Classifier of each pixel of a hyperspectral cube, or of its composition.

    Three convolutions along the spectrum and across the image, ``lyx -> l,yx``, make the
    spectrum eight times shorter; the rest becomes channels, which are combined pixel by pixel. A
    quarter as many channels as come out are between the two passes, at least 4: with as many, the
    first pair would cost more than the dense convolution that it stands for.

    Parameters
    ----------
    bands : int
        Bands of the cube. 200, the usual for the AVIRIS scene Indian Pines.
    classes : int
        Classes, or end-members: the softmax of the output is then their abundances. 16, as there.
    width : int
        Channels of the first convolution; the next have twice and four times as many.
    dropout : float
        Before the last layer.
    norm : str
        "group", which does not depend on the batch (often one cube), or "batch".
    dense : bool
        Build the dense twin: one convolution of the cube for each pair.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, bands, y, x)``, output ``(N, classes, y, x)``: logits.

    References
    ----------
    In the manner of Ben Hamida et al. (2018), "3-D deep learning approach for remote sensing image
    classification", doi:10.1109/TGRS.2018.2818945, and Zhong et al. (2018), "Spectral-spatial
    residual network", doi:10.1109/TGRS.2017.2755542; the layout is our own.

    Examples
    --------
    >>> import torch
    >>> net = SpatialSpectralNet(bands=32, classes=4, width=8).eval()
    >>> net(torch.zeros(1, 32, 10, 12)).shape
    torch.Size([1, 4, 10, 12])
    """

    def __init__(
        self,
        bands: int = 200,
        classes: int = 16,
        *,
        width: int = 16,
        dropout: float = 0.0,
        norm: str = "group",
        dense: bool = False,
    ) -> None:
        super().__init__(
            (bands, 32, 32), "cubes",
            bands=bands, classes=classes, width=width, dropout=dropout, norm=norm, dense=dense,
        )  # fmt: skip
        positive(bands=bands, classes=classes, width=width)
        share(dropout=dropout)
        layers: list[nn.Module] = []
        channels = 1
        for stage in STAGES:
            wide = width * stage.widen
            kernel, stride = (stage.bands, SPACE, SPACE), (stage.step, 1, 1)
            layers += [
                StridedConv3d(channels, wide, kernel, stride, bias=False)
                if dense
                else SpatialSpectralConv3d(
                    channels,
                    wide,
                    kernel,
                    stride,
                    bias=False,
                    rank=max(min(wide, LEAST), wide // BETWEEN),
                ),
                make_norm(norm, 3, wide),
                nn.ReLU(),
            ]
            channels, bands = wide, -(-bands // stage.step)
        self.cube = nn.Sequential(*layers)
        self.pixel = nn.Sequential(
            PointwiseConv(channels * bands, 2 * channels, bias=False),
            make_norm(norm, 2, 2 * channels), nn.ReLU(), nn.Dropout(dropout),
            PointwiseConv(2 * channels, classes),
        )  # fmt: skip
        initialise_network(self)

    def forward(self, cubes: Tensor) -> Tensor:
        """Return logits ``(N, classes, y, x)`` of cubes ``(N, bands, y, x)``."""
        self.check(cubes, channels="bands")
        features = self.cube(cubes.unsqueeze(1))  # (N, channel, l, y, x)
        logits: Tensor = self.pixel(features.flatten(1, 2))
        return logits
