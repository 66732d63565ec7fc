"""U-Net for images (Ronneberger et al. 2015) and for volumes (Çiçek et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.depthwise import PointwiseConv
from separable.nn.models._blocks import initialise_network, make_norm, positive, separable_or_dense
from separable.nn.models._network import Network

__all__ = ["UNet"]


@dataclass(frozen=True)
class Layout:
    """Options of a paper's U-Net, from the full resolution to the coarsest."""

    widths: tuple[int, ...]
    narrow_first: bool  # the first convolution of a level has half the channels of the second
    up_halves: bool  # going up halves the channels
    resolution: int
    pool: type[nn.Module]
    up: type[nn.Module]


LAYOUTS = {
    2: Layout((64, 128, 256, 512, 1024), False, True, 256, nn.MaxPool2d, nn.ConvTranspose2d),
    3: Layout((64, 128, 256, 512), True, False, 64, nn.MaxPool3d, nn.ConvTranspose3d),
}


class UNet(Network):
    """Segmentation of pixels or voxels: down to coarse features and up again, with skip connections.

    Parameters
    ----------
    ndim : int
        2 for images, 3 for volumes: the layouts of the two papers.
    in_channels, classes : int
    widths : sequence of int, optional
        Channels of each level, the finest first; as in the paper if not given, (64 ... 1024) or
        (64 ... 512). In 3-D they must be even: the first convolution of each level going down has
        half of them.
    norm : str
        "batch" as in the 3-D paper (the 2-D one has none), or "group", which does not depend on
        the batch: for batches of one or two images, and for the same result on several processes.
    skips : bool
        Without them what was lost going down is gone: for showing what they are good for.
    dense : bool
        Build the dense twin: a 3x3 or 3x3x3 convolution for each separable one.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If an argument is out of its range or of another type.

    Notes
    -----
    Input ``(N, in_channels, [z,] y, x)``, output ``(N, classes, [z,] y, x)``: logits. Convolutions
    are padded, so that the output is as large as the input (the papers crop instead). Sizes need
    not divide by 2: where one is odd, the last window of the pooling is narrower, and what going
    up gives too much is cut. The very first convolution is dense in both twins: of one channel, a
    depthwise one has one filter.

    References
    ----------
    Ronneberger, Fischer and Brox (2015), "U-Net", doi:10.1007/978-3-319-24574-4_28.
    Çiçek et al. (2016), "3D U-Net", doi:10.1007/978-3-319-46723-8_49.

    Examples
    --------
    >>> import torch
    >>> net = UNet(2, widths=(8, 16, 32), classes=1).eval()
    >>> net(torch.zeros(1, 1, 50, 61)).shape
    torch.Size([1, 1, 50, 61])

    >>> for ndim in (2, 3):
    ...     print(f"{UNet(ndim).parameter_count():,} {UNet(ndim, dense=True).parameter_count():,}")
    5,987,714 31,035,586
    3,435,778 19,070,498
    """

    def __init__(
        self,
        ndim: int = 2,
        *,
        in_channels: int = 1,
        classes: int = 2,
        widths: Sequence[int] | None = None,
        norm: str = "batch",
        skips: bool = True,
        dense: bool = False,
    ) -> None:
        if ndim not in LAYOUTS:
            raise ArgumentError(f"`ndim` must be 2 or 3; got {ndim!r}")
        layout = LAYOUTS[ndim]
        levels = layout.widths if widths is None else tuple(widths)
        super().__init__(
            (in_channels, *[layout.resolution] * ndim), "images" if ndim == 2 else "volumes",
            ndim=ndim, in_channels=in_channels, classes=classes, widths=levels, norm=norm,
            skips=skips, dense=dense,
        )  # fmt: skip
        _check(levels, layout)
        positive(in_channels=in_channels, classes=classes)
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        join: list[nn.Module] = []
        channels = in_channels
        for width in levels:
            first = width // 2 if layout.narrow_first else width
            down.append(_Pair(ndim, (channels, first, width), norm, dense, stem=not down))
            channels = width
        for width in levels[-2::-1]:
            raised = width if layout.up_halves else channels
            up.append(layout.up(channels, raised, 2, 2, bias=False))
            wide = raised + width if skips else raised
            join.append(_Pair(ndim, (wide, width, width), norm, dense))
            channels = width
        self.down, self.up, self.join = nn.ModuleList(down), nn.ModuleList(up), nn.ModuleList(join)
        self.pool = layout.pool(2, ceil_mode=True)
        self.head = PointwiseConv(channels, classes, ndim=ndim)
        self.skips = skips
        initialise_network(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, classes, ...)`` of images ``(N, in_channels, ...)``."""
        self.check(images)
        x = images
        kept: list[Tensor] = []
        for pair in self.down:
            x = pair(self.pool(x) if kept else x)
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = up(x)
            for axis in range(2, x.ndim):
                x = x.narrow(axis, 0, skip.shape[axis])
            x = join(torch.cat([skip, x], dim=1) if self.skips else x)
        logits: Tensor = self.head(x)
        return logits


class _Pair(nn.Sequential):
    """Two convolutions, each with its norm and ReLU; the first of a stem is dense."""

    def __init__(
        self, ndim: int, channels: tuple[int, int, int], norm: str, dense: bool, stem: bool = False
    ) -> None:
        before, first, second = channels
        super().__init__(
            separable_or_dense(ndim, before, first, 3, dense=dense or stem),
            make_norm(norm, ndim, first),
            nn.ReLU(),
            separable_or_dense(ndim, first, second, 3, dense=dense),
            make_norm(norm, ndim, second),
            nn.ReLU(),
        )


def _check(widths: tuple[int, ...], layout: Layout) -> None:
    if not widths:
        raise ArgumentError("`widths` must have at least one level; got ()")
    for width in widths:
        positive(widths=width)
    if layout.narrow_first and any(width % 2 for width in widths):
        raise ArgumentError(f"`widths` of a 3-D U-Net must be even; got {widths}")
