"""Everything that the engine takes from Numba, public and private, in one place.

No other module imports ``numba``; a test checks that. Numba does not promise to keep what stands under
``numba.core``: what is used of it is looked for when this module is imported, so that a release without
it is found before anything is compiled, and filters run on SciPy instead.
"""

from __future__ import annotations

from typing import Any

import llvmlite
import numba as _numba
from numba.core import cgutils as cgutils
from numba.core import compiler as _compiler
from numba.core import extending as _extending
from numba.core import types as types
from numba.core.datamodel import models as models
from numba.core.datamodel.registry import register_default as register_default
from numba.core.registry import cpu_target as cpu_target
from numba.core.serialize import dumps as _dumps

# Used where Numba's annotations do not know what Numba can do.
numba: Any = _numba
extending: Any = _extending
CompileResult: Any = _compiler.CompileResult
dumps: Any = _dumps

VERSIONS = f"numba {_numba.__version__} llvmlite {llvmlite.__version__}"


def _check() -> None:
    """Raise ImportError if Numba lacks something that the engine uses."""
    context = cpu_target.target_context
    wanted = [
        (CompileResult, ("_reduce", "_rebuild")),
        (context, ("codegen", "call_conv", "get_value_type", "make_tuple")),
        (context.codegen(), ("magic_tuple", "unserialize_library")),
        (types, ("CPointer", "UniTuple", "Type", "void", "int64", "float32", "float64")),
        (extending, ("intrinsic", "overload")),
        (cgutils, ("unpack_tuple", "get_or_insert_function")),
        (models, ("PrimitiveModel",)),
        (numba, ("njit", "from_dtype")),
    ]
    for owner, names in wanted:
        for name in names:
            if not hasattr(owner, name):
                raise ImportError(f"Numba {_numba.__version__} has no {name!r} in {owner!r}")


_check()
