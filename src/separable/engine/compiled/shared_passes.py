"""Several sums of separable correlations of one array in one sweep, with shared passes run once.

:class:`.term_graph.TermGraph` describes which passes feed which sums.  Tiles are those of a single sum, see
:mod:`.tile_loop`; the outputs are stored one after the other from the same tile, or the same rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from .axis_layout import arrange
from .prepared_filter import PreparedFilter
from .sweep_builder import Dtypes
from .sweep_params import array_address
from .term_graph import Pass, TermGraph
from .term_sums import Correlation
from .thread_pool import run_sweep
from .tiling import TermSchedule


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
        As for :class:`.term_sums.Correlation`.
    """

    def __init__(
        self,
        passes: Sequence[Pass],
        network: TermGraph,
        axes: Sequence[int],
        cval: float,
        work: Any,
        shape: tuple[int, ...],
    ) -> None:
        PreparedFilter.__init__(self, shape, cval, work)  # the passes are complete
        self.axes, self.passes, self.network = tuple(axes), list(passes), network

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
        threads = min(threads, self.most_threads)
        places = [array_address(o) for o in outputs]
        at = tuple(place - places[0] for place in places)
        key = (at, image.dtype, outputs[0].dtype, threads)

        def build() -> TermSchedule:
            layout = arrange(self.shape, image.strides, outputs[0].strides, self.axes)
            dtypes = Dtypes(image.dtype, outputs[0].dtype, self.work)
            network = replace(self.network, at=at)
            return TermSchedule(layout, self.passes, self.cval, dtypes, threads, None, network)

        schedule = self._schedules.get_or_build(key, build)
        if image.size:
            run_sweep(schedule, image, outputs[0], threads)
        return outputs
