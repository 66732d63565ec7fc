"""A napari plugin: one widget that filters an image layer.

``pip install "separable-convolution[napari]"``, then Plugins > Separable filters. The spacing is
the scale of the layer, so that sigma is in the units of the viewer, and the new layer has the position
of the old one. `filtered` and `explained` do the work without a viewer.

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
