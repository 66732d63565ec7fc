"""Missing samples: filters in which only valid samples count.

Definition, for a kernel k, an image x and a mask m (1 where x is valid, 0 where it is missing)::

    mean = (|k| * (m x)) / (|k| * m)        the mean of the valid samples, weighted by |k|
    out  = k * (m x) + mean (k * (1 - m))   the filter, with that mean for missing samples

where ``*`` filters. If k has no negative weights this is ``sum(k) (k * (m x)) / (k * m)``: normalised
convolution (H. Knutsson and C.-F. Westin, "Normalized and differential convolution", CVPR 1993,
doi:10.1109/CVPR.1993.341081) with the kernel as its applicability. If k has both signs (slopes,
Laplacians), a division by the valid weight has no meaning, because it may be 0 or negative. The mean
from normalised convolution with |k| then replaces the missing samples. Hence

- without missing samples below the kernel the result is that of the ordinary filter;
- a constant image gives ``constant * sum(k)``, which is 0 for slopes;
- ``a x + b`` gives ``a out + b sum(k)``;
- masked values have no influence, not even NaN or infinity.

Where no sample below a nonzero weight is valid the result is `fill`.
"""

from separable.masked.nodata import (
    check_nodata,
    keep_distinct,
    nodata_values,
    valid_samples,
)
from separable.masked.normalised import AxisByAxisRun, PlannedRun, Run, filter_missing, normalise
from separable.masked.opacity import (
    Opacity,
    OpacityWeights,
    filter_with_opacity,
    valid_colours,
    valid_pixels,
    weigh_pixels,
)
from separable.masked.samples import (
    STAYS_NAN,
    Missing,
    MissingOptions,
    blank,
    check_fill,
    check_nan,
    fill_for,
    mask_of,
    missing_of,
)
from separable.masked.valid_weights import Weights

__all__ = [
    "STAYS_NAN",
    "AxisByAxisRun",
    "Missing",
    "MissingOptions",
    "Opacity",
    "OpacityWeights",
    "PlannedRun",
    "Run",
    "Weights",
    "blank",
    "check_fill",
    "check_nan",
    "check_nodata",
    "fill_for",
    "filter_missing",
    "filter_with_opacity",
    "keep_distinct",
    "mask_of",
    "missing_of",
    "nodata_values",
    "normalise",
    "valid_colours",
    "valid_pixels",
    "valid_samples",
    "weigh_pixels",
]
