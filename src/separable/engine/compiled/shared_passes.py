"""Several sums of separable correlations of one array in one sweep, with shared passes run once.

What is computed: see :class:`.tiling.Network`.  How it is tiled: as a single sum is, see :mod:`.tile_loop`; the
outputs are stored one after the other from the same tile, or the same rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.process_cache import ProcessCache

from .axis_layout import arrange
from .sweep_builder import Dtypes
from .term_sums import SCHEDULES_KEPT, Correlation
from .thread_pool import run
from .tiling import Network, Pass, TermSchedule


class BankCorrelation(Correlation):
    """Sums of separable correlations for one shape, to be run again and again.

    Parameters
    ----------
    passes
        For each filtered axis the taps of all its terms.
    network
        What each term reads and which ones are summed; its `at` is set for each run.
    axes
        The filtered axes, ascending: one to three.
    cval, work, shape
        As for :func:`.term_sums.correlate_terms`.
    """

    def __init__(
        self,
        passes: Sequence[Pass],
        network: Network,
        axes: Sequence[int],
        cval: float,
        work: Any,
        shape: tuple[int, ...],
    ) -> None:
        self.shape, self.axes = tuple(shape), tuple(axes)
        self.work, self.cval = np.dtype(work), float(cval)
        self.passes, self.network = list(passes), network
        self._schedules = ProcessCache(SCHEDULES_KEPT)

    def into(
        self, image: NDArray[Any], outputs: Sequence[NDArray[Any]], threads: int = 1
    ) -> Sequence[NDArray[Any]]:
        """Run on a contiguous ``image`` into as many contiguous arrays of one dtype as there are outputs."""
        if len(outputs) != len(self.network.outputs):
            raise ValueError(f"`outputs` must be {len(self.network.outputs)}; got {len(outputs)}")
        for array in outputs:
            self._check(image, array)
            if array.dtype != outputs[0].dtype:
                raise ValueError(f"`outputs` must have one dtype; got {array.dtype} as well")
        if not all(array.flags.c_contiguous for array in (image, *outputs)):
            raise ValueError("`image` and `outputs` must be contiguous")
        places = [o.__array_interface__["data"][0] for o in outputs]
        at = tuple(place - places[0] for place in places)
        key = (at, image.dtype, outputs[0].dtype, threads)

        def build() -> TermSchedule:
            layout = arrange(self.shape, image.strides, outputs[0].strides, self.axes)
            dtypes = Dtypes(image.dtype, outputs[0].dtype, self.work)
            network = replace(self.network, at=at)
            return TermSchedule(layout, self.passes, self.cval, dtypes, threads, None, network)

        schedule = self._schedules.get_or_build(key, build)
        if image.size:
            run(schedule, image.__array_interface__["data"][0], places[0], threads)
        return outputs
