"""Train a converted network towards the outputs of the original: a few steps, without labels.

    from finetune import finetune

    small, report = nn.convert(net, "auto", budget=0.25, data=images.split(64))
    finetune(small, net, images)

Conversion fits each layer separately, so the errors of the layers add up.  These steps reduce the
total error: they adapt all factors together so that the outputs approach those of the
original.  Any images can be used that resemble those the network is made for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from training import batch_rows, chance

__all__ = ["finetune"]


def finetune(
    model: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    *,
    steps: int = 200,
    batch: int = 64,
    rate: float = 1e-3,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss,
    seed: int = 0,
    show: Callable[[int, float], None] | None = None,
) -> float:
    """Adapt the weights of `model`, in place, so that its outputs approach those of `teacher`.

    Parameters
    ----------
    model, teacher : torch.nn.Module
        Converted network and original; the original is not changed.
    images : Tensor, shape (n, ...)
        Images without labels; the calibration data can be used.
    steps, batch : int
        200 steps of 64 take about as long as one tenth of a usual training.
    rate : float
        Learning rate of Adam at the first step; it falls to zero along a half cosine. 1e-3 is low
        for a network that begins from nothing, and high enough for one that is nearly there.
    loss : callable
        ``loss(outputs, wanted)``. The mean squared difference of logits asks for more than the
        same answers: for the same doubts (Ba and Caruana 2014, arXiv:1312.6184).
    seed : int
        Of the order of the images.
    show : callable, optional
        Told of steps done (always 1) and of the last loss.

    Returns
    -------
    float
        The loss of the last step.

    Notes
    -----
    Both networks stay in evaluation mode: running means of batch normalisation remain those of the
    original's training, and no dropout disturbs the comparison.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> teacher, model = nn.Linear(4, 3), nn.Linear(4, 3)
    >>> images = torch.randn(64, 4)
    >>> before = nn.functional.mse_loss(model(images), teacher(images)).item()
    >>> finetune(model, teacher, images, steps=500, rate=1e-2) < 0.01 * before
    True
    """
    model.eval()
    teacher.eval()
    with torch.no_grad():
        wanted = torch.cat([teacher(part) for part in images.split(batch)])
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    batch = min(batch, len(images))
    last = math.nan
    for step in range(steps):
        rows = batch_rows(len(images), batch, chance(seed, len(images)), step)
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        missed = loss(model(images[rows]), wanted[rows])
        missed.backward()
        optimizer.step()
        last = missed.item()
        if show is not None:
            show(1, last)
    return last
