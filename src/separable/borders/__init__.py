"""Border modes: the samples that a filter finds outside an image.

A border mode is a `Border`. The built-in ones have SciPy's names; for the samples ``a b c d`` they give::

    reflect   d c b a | a b c d | d c b a      (alias grid-mirror)
    mirror      d c b | a b c d | c b a
    nearest   a a a a | a b c d | d d d d
    wrap      a b c d | a b c d | a b c d      (alias grid-wrap)
    constant  k k k k | a b c d | k k k k      (alias grid-constant), k = cval

`register_border` adds another one, which every part of the package then offers under its name.

Extending one axis only selects samples, hence it commutes with a pass along another axis. Where a
border fills in a constant (`Border.fills`), a pass with the taps w leaves ``cval * sum(w)`` outside
(`carried`); the next pass takes that for its own ``cval``, so no image is ever shifted.
"""

from __future__ import annotations

from separable.borders.border_modes import (
    CONSTANT,
    MIRROR,
    NEAREST,
    OUTSIDE,
    REFLECT,
    WRAP,
    Border,
    Mode,
    Modes,
    runs_of,
)
from separable.borders.border_registry import (
    cache_key,
    canonical,
    canonical_modes,
    mode_names,
    register_border,
    registered_borders,
    registry_version,
    unregister_border,
)
from separable.borders.extended_images import carried, extend

__all__ = [
    "CONSTANT",
    "MIRROR",
    "NEAREST",
    "OUTSIDE",
    "REFLECT",
    "WRAP",
    "Border",
    "Mode",
    "Modes",
    "cache_key",
    "canonical",
    "canonical_modes",
    "carried",
    "extend",
    "mode_names",
    "register_border",
    "registered_borders",
    "registry_version",
    "runs_of",
    "unregister_border",
]
