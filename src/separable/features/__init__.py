"""Features of images and volumes: derivatives of several scales and what is computed from them.

Names, definitions and defaults are those of scikit-image where it has them. All derivatives of a scale are computed in
one sweep, and the features from them while they are in the cache, so that memory holds the image, the result and
little else.

>>> import numpy as np
>>> from separable import features
>>> features.frangi(np.eye(16), [1.0], black_ridges=False).shape
(16, 16)
"""

from separable.features.blobs import (
    blob_response,
    gradient_direction,
    gradient_magnitude,
    local_mean,
    local_variance,
)
from separable.features.eigenvectors import symmetric_eigenvectors
from separable.features.feature_plans import FeaturePlan, plan_features
from separable.features.hessian import (
    hessian_eigenvalues,
    hessian_eigenvectors,
    hessian_matrix,
    hessian_matrix_det,
    hessian_matrix_eigvals,
)
from separable.features.ridges import frangi, meijering, sato
from separable.features.structure import (
    coherence,
    structure_tensor,
    structure_tensor_eigenvalues,
    structure_tensor_eigvals_of,
)
from separable.features.texture_set import FeatureStack, texture_features

__all__ = [
    "FeaturePlan",
    "FeatureStack",
    "blob_response",
    "coherence",
    "frangi",
    "gradient_direction",
    "gradient_magnitude",
    "hessian_eigenvalues",
    "hessian_eigenvectors",
    "hessian_matrix",
    "hessian_matrix_det",
    "hessian_matrix_eigvals",
    "local_mean",
    "local_variance",
    "meijering",
    "plan_features",
    "sato",
    "structure_tensor",
    "structure_tensor_eigenvalues",
    "structure_tensor_eigvals_of",
    "symmetric_eigenvectors",
    "texture_features",
]
