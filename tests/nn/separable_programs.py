"""Small programs with separable kernels in them, as they are found in real code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "AnomalyDetector",
    "AverageByConvolution",
    "Downsampler",
    "EdgeDetector",
    "LogBank",
    "Translations",
    "WindowShift",
    "blur_augmentation",
    "gaussian",
]


def gaussian(size: int, sigma: float) -> Tensor:
    """Return a Gaussian line with the sum 1."""
    at = torch.arange(size) - size // 2
    line = torch.exp(-(at**2) / (2 * sigma**2))
    return line / line.sum()


class AnomalyDetector(nn.Module):
    """Features, their reconstruction error, and a map smoothed with a 33x33 Gaussian per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.decoder = nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)
        line = gaussian(33, 4.0)
        self.smooth = nn.Conv2d(3, 3, 33, groups=3, padding=16, padding_mode="reflect", bias=False)
        self.smooth.weight.data[:] = line[:, None] * line
        self.smooth.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        error = (self.decoder(functional.relu(self.encoder(image))) - image) ** 2
        return self.smooth(error).amax(dim=1)


def blur_augmentation(image: Tensor) -> Tensor:
    """Blur with a random Gaussian, as a dense kernel."""
    line = gaussian(21, float(torch.empty(1).uniform_(1.0, 3.0)))
    kernel = (line[:, None] * line).expand(3, 1, 21, 21)
    padded = functional.pad(image, (10, 10, 10, 10), mode="reflect")
    return functional.conv2d(padded, kernel, groups=3)


class WindowShift(nn.Module):
    """A Hann window shifted by a fraction of a sample with 2-D Fourier transforms."""

    def __init__(self, size: int = 48) -> None:
        super().__init__()
        line = torch.hann_window(size)
        self.register_buffer("window", line[:, None] * line)
        self.register_buffer("frequencies", torch.fft.fftfreq(size))

    def forward(self, shift: Tensor) -> Tensor:
        f = self.frequencies
        ramp = torch.exp(-2j * torch.pi * (f[:, None] * shift[0] + f * shift[1]))
        return torch.fft.ifft2(torch.fft.fft2(self.window) * ramp).real


class Downsampler(nn.Module):
    """Resize to half the size, as a dense convolution whose channels do not mix."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([-1.0, 3.0, 9.0, 9.0, 3.0, -1.0]) / 22
        self.resize = nn.Conv2d(3, 3, 6, stride=2, padding=2, bias=False)
        self.resize.weight.data.zero_()
        for channel in range(3):
            self.resize.weight.data[channel, channel] = line[:, None] * line

    def forward(self, image: Tensor) -> Tensor:
        return self.resize(image)


class AverageByConvolution(nn.Module):
    """Average pooling as a depthwise convolution with equal weights."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Conv2d(16, 16, 4, stride=4, groups=16, bias=False)
        nn.init.constant_(self.pool.weight, 1 / 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


class LogBank(nn.Module):
    """Laplacians of Gaussians at four scales, one kernel after the other."""

    def forward(self, image: Tensor) -> Tensor:
        bands = []
        for sigma in (1.0, 1.5, 2.0, 3.0):
            at = torch.arange(-12, 13).double()
            g = torch.exp(-(at**2) / (2 * sigma**2))
            r = at[:, None] ** 2 + at**2
            kernel = ((r - 2 * sigma**2) / sigma**4 * g[:, None] * g).float()[None, None]
            bands.append(functional.conv2d(functional.pad(image, (12,) * 4), kernel))
        return torch.cat(bands, dim=1)


class EdgeDetector(nn.Module):
    """Magnitude of the gradient by a pair of Sobel kernels."""

    def __init__(self) -> None:
        super().__init__()
        kernel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        self.register_buffer("across", kernel[None, None])
        self.register_buffer("down", kernel.T.contiguous()[None, None])

    def forward(self, image: Tensor) -> Tensor:
        gx = functional.conv2d(image, self.across, padding=1)
        gy = functional.conv2d(image, self.down, padding=1)
        return (gx**2 + gy**2).sqrt()


class Translations(nn.Module):
    """A binomial smoothing as a weighted sum of shifted images."""

    def forward(self, image: Tensor) -> Tensor:
        total: Any = 0.0
        for dy, a in enumerate((1, 4, 6, 4, 1)):
            for dx, b in enumerate((1, 4, 6, 4, 1)):
                total = total + a * b / 256 * torch.roll(image, (dy - 2, dx - 2), (-2, -1))
        return total
