"""Cost of a network, counted operation by operation without running it.

`ledger` runs a copy of the model on fake tensors, which have a shape and no memory. It sees every
operation that PyTorch would execute (``aten``), forward and backward, in modules and in functions. An
operation without a formula is listed in `Ledger.uncounted`, so nothing is missed.

`counting` runs the model and `counter` adds up; the formulas are in `matmul_ops`, `elementwise_ops` and
`pooling_ops`, the results in `ledger_data`; `ledger_text` and `ledger_html` format them.

Conventions
-----------
* A *multiplication* is a product or quotient of two numbers. A *MAC* is a multiplication whose product
  is added to a running sum ("multiply-add"): in convolutions, linear layers, matrix products,
  attention. FLOPs are multiplications plus the additions of MACs. Additions outside MACs (biases,
  residual sums, means) are counted separately, and so are comparisons, exponentials and roots.
* A convolution uses all its weights at every output position, a transposed one at every input
  position. Products with padded zeros, and products that the padding cuts off, count, as in every
  library. Causal attention is counted in full.
* Bytes: every operation reads its operands once and writes its result once. A view moves nothing.
* Backward: the operations that autograd runs. The gradient of an operation's input is computed only
  if something before it is trained (so not for the first layer), that of its weights unless frozen.
* If a module is called several times, its multiplications count each time, its parameters once.
* The model is counted in its current mode: call `model.eval()` first for inference.
"""

from __future__ import annotations

from separable.nn.ledger.counting import ledger
from separable.nn.ledger.layer_seconds import LayerSeconds, TimedLayer
from separable.nn.ledger.ledger_data import Layer, Ledger, Uncounted

__all__ = ["Layer", "LayerSeconds", "Ledger", "TimedLayer", "Uncounted", "ledger"]
