"""A plugin of napari: one widget that filters an image layer.

``pip install "separable-convolution[napari]"``, then Plugins > Separable filters. The layer's scale gives the
spacing, so that sigma is in the units that the viewer shows, and the new layer lies where the old one
does. `filtered` and `explained` do the work without a viewer.

Examples
--------
>>> import numpy as np
>>> volume = np.zeros((6, 20, 20), np.float32)
>>> data, attributes, kind = filtered(volume, Settings("gaussian", 3.0), {"scale": (3, 1, 1)})
>>> data.shape, attributes["name"], kind
((6, 20, 20), 'gaussian:3', 'image')
"""

from separable.napari.filter_layer import LayerData, Settings, explained, filtered

__all__ = ["LayerData", "Settings", "explained", "filtered"]
