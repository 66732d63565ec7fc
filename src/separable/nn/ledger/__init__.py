"""Cost of a network, counted operation by operation without running it.

`ledger` runs a copy of the model on fake tensors, which have a shape and no memory, and sees every
operation that PyTorch would execute (``aten``), forward and backward, whether a module, a
function, a product of two tensors or the gradient of one asked for it. So nothing is missed: an
operation without a formula is listed in `Ledger.uncounted`.

Data is in `data`, the formulas in `products`, `elementwise` and `windows`, the run in `counting`,
the printing in `formatting`.

Conventions
-----------
* A *multiplication* is one of two numbers (a division too). A *MAC* is one whose product is added
  to a running sum: convolutions, linear layers, products of matrices, attention; the literature's
  "multiply-adds". FLOPs are multiplications and the additions of MACs. Additions outside MACs
  (biases, residual sums, means) are counted apart, and so are comparisons, exponentials and roots.
* A convolution uses all its weights at every output position, a transposed one at every input
  position: products with the zeros of the padding, or that the padding cuts off, count, as in
  every library. Causal attention is counted in full.
* Bytes: every operation reads its operands once and writes its result once; a view moves nothing,
  a copy moves much and multiplies nothing.
* Backward is what autograd runs: the gradient with respect to an operation's input only where
  something before it is trained (so none for the first layer), that of its weights unless frozen.
* Multiplications of modules called several times count each time, their parameters once.
* The model is counted in the mode it is in: call `model.eval()` first for inference.
"""

from __future__ import annotations

from separable.nn.ledger.counting import ledger
from separable.nn.ledger.ledger_data import Layer, Ledger, Uncounted

__all__ = ["Layer", "Ledger", "Uncounted", "ledger"]
