"""Programs: networks, or parts of them, as one native call each.

`network_trace` records the operators of one call; `translation` turns them into the steps of programs, and leaves to
PyTorch what has no kernel; `memory_plan` places the values between steps; `program` holds the records that
compiled code reads; `executor` runs the programs in place of a module's `forward`; `measurement` compares them with PyTorch on the example.
"""

from separable.nn.fused.program.attachment import Compiled, attach
from separable.nn.fused.program.executor import Executor

__all__ = ["Compiled", "Executor", "attach"]
