"""Everything that the engine takes from Numba, public and private, in one place.

No other module imports ``numba``; a test checks that. Here the whole package is imported before any part of
it: a thread that imports a part while another thread imports the package finds an incomplete module.

Numba does not promise to keep the contents of ``numba.core``. The names used here are looked up when this module is
imported, so that a release without them is found before anything is compiled, and filters run on SciPy instead.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import llvmlite
import numba as _numba
from numba.core import cgutils as cgutils
from numba.core import codegen as _codegen
from numba.core import compiler as _compiler
from numba.core import extending as _extending
from numba.core import types as types
from numba.core.compiler_lock import global_compiler_lock as _compiler_lock
from numba.core.datamodel import models as models
from numba.core.datamodel.registry import register_default as register_default
from numba.core.registry import cpu_target as cpu_target
from numba.core.serialize import dumps as _dumps

# Used where Numba's annotations do not know what Numba can do.
numba: Any = _numba
extending: Any = _extending
CompileResult: Any = _compiler.CompileResult
dumps: Any = _dumps
compiler_lock: Any = _compiler_lock

VERSIONS = f"numba {_numba.__version__} llvmlite {llvmlite.__version__}"


class _NoEnvironment:
    """A code generator without environments, because a helper has no machine code to set globals in."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: kernels raise no exceptions, the only use of the environment."""


class _HelperLibrary(_codegen.JITCodeLibrary):
    """The LLVM code of a helper, to be linked into its callers.

    Numba optimises each function and compiles it to machine code on its own, and again in each caller that links
    it. For helpers within helpers that is most of the compile time. Here only the innermost ones are optimised on
    their own, because loops that are optimised twice run faster.
    """

    @property
    def codegen(self) -> Any:
        return _NoEnvironment(self._codegen)

    def finalize(self) -> None:
        """Link the functions called here; generate no machine code."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            if hasattr(library, "_reload_init"):  # from Numba 0.63 on
                self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        if not self._linking_libraries:
            self._optimize_final_module()
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is no machine code."""
        return 0


_NEEDLESS = frozenset(
    (
        "WithLifting", "InlineClosureLikes", "RewriteSemanticConstants", "DeadBranchPrune",
        "RewriteDynamicRaises", "MakeFunctionToJitFunction", "InlineInlinables", "FindLiterallyCalls",
        "LiteralUnroll", "LiteralPropagationSubPipelinePass", "InlineOverloads", "NopythonRewrites",
        "DumpParforDiagnostics",
    )
)  # fmt: skip
"""Compiler passes for features that no kernel uses: closures, exceptions, array expressions, mixed tuples."""


class StageCompiler(_compiler.Compiler):
    """Numba's compiler without the passes that kernels do not need."""

    def define_pipelines(self) -> Any:
        """Return the compiler passes."""
        pipelines: Any = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes[:] = [p for p in pipeline.passes if p[0].__name__ not in _NEEDLESS]
        return pipelines


class HelperCompiler(StageCompiler):
    """Compiler of helpers that only other compiled functions call."""

    def define_pipelines(self) -> Any:
        """Return the compiler passes, after replacing the library that receives the code."""
        state = self.state
        state.library = _HelperLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().define_pipelines()


def without_literals(dispatcher: Any) -> Any:
    """Make a helper compile once for all integers instead of once per constant argument."""
    general = dispatcher.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        return general(
            tuple(types.unliteral(a) for a in args),
            {name: types.unliteral(a) for name, a in dict(kws).items()},
        )

    dispatcher.get_call_template = get_call_template
    return dispatcher


def _check() -> None:
    """Raise ImportError if Numba lacks something that the engine uses."""
    context = cpu_target.target_context
    wanted = [
        (CompileResult, ("_reduce", "_rebuild")),
        (context, ("codegen", "call_conv", "get_value_type", "make_tuple")),
        (context.codegen(), ("magic_tuple", "unserialize_library")),
        (
            _HelperLibrary,
            (
                "_get_module_for_linking",
                "_finalize_dynamic_globals",
                "_optimize_final_module",
                "_raise_if_finalized",
            ),
        ),
        (numba.njit(_check), ("get_call_template", "get_compile_result", "_cache", "stats")),
        (
            types,
            ("unliteral", "CPointer", "UniTuple", "Type", "void", "int64", "float32", "float64"),
        ),
        (extending, ("intrinsic", "overload")),
        (cgutils, ("unpack_tuple", "get_or_insert_function")),
        (models, ("PrimitiveModel", "PointerModel")),
        (compiler_lock, ("acquire", "release")),
        (numba, ("njit", "from_dtype")),
    ]
    for owner, names in wanted:
        for name in names:
            if not hasattr(owner, name):
                raise ImportError(f"Numba {_numba.__version__} has no {name!r} in {owner!r}")


_check()
