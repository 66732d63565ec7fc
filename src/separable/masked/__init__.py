"""Missing samples: filters that count only what is valid.

Definition, for a kernel k, an image x and a mask m (1 where x is valid, 0 where it is missing)::

    mean = (|k| * (m x)) / (|k| * m)        the mean of what is valid, weighted by |k|
    out  = k * (m x) + mean (k * (1 - m))   the filter; what is missing counts as that mean

where ``*`` filters. Where k has no sign this is ``sum(k) (k * (m x)) / (k * m)``: normalised
convolution (H. Knutsson and C.-F. Westin, "Normalized and differential convolution", CVPR 1993,
doi:10.1109/CVPR.1993.341081) with the kernel as its applicability. Where k has both signs (slopes,
Laplacians) dividing by the weight that is valid means nothing, for it may be 0 or negative; so the
mean that normalised convolution with |k| gives stands for the missing samples. Hence

- without missing samples below the kernel the result is the plain filter's;
- a constant image gives ``constant * sum(k)``, 0 for slopes;
- ``a x + b`` gives ``a out + b sum(k)``;
- what stands under the mask has no influence, be it NaN or infinite.

Where no sample below a weight other than 0 is valid the result is `fill`.
"""

from separable.masked.normalised import Passes, Planned, Run, filter_missing, normalise
from separable.masked.samples import (
    Missing,
    MissingOptions,
    blank,
    check_fill,
    check_nan,
    mask_of,
    missing_of,
)
from separable.masked.valid_weights import Weights

__all__ = [
    "Missing",
    "MissingOptions",
    "Passes",
    "Planned",
    "Run",
    "Weights",
    "blank",
    "check_fill",
    "check_nan",
    "filter_missing",
    "mask_of",
    "missing_of",
    "normalise",
]
