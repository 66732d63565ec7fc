"""`separable warmup`: compile ahead, so that no first call waits."""

from __future__ import annotations

import time

from separable.cli.console import output, progress
from separable.engine.availability import why_not
from separable.errors import ArgumentError, FileError

__all__ = ["warmup_command"]


def warmup_command() -> None:
    """Compile what filters of the common types need, and keep it in the user's cache folder.

    Takes under a minute, and nothing where it was done before.
    """
    reason = why_not()
    if reason:
        raise ArgumentError(f"nothing to compile: the compiled engine is not available: {reason}")
    from separable.engine.compile_ahead import warmup
    from separable.engine.compiled.code_cache import state
    from separable.engine.compiled.jit import cache_folder

    folder = cache_folder()
    if state(folder) != "writable":
        where = "there is no cache folder" if folder is None else f"{folder} cannot be written"
        raise FileError(
            f"cannot keep compiled code: {where}. "
            "Choose another folder, for instance with SEPARABLE_CACHE_DIR"
        )
    start = time.perf_counter()
    with progress("Compiling", shown=True) as step:
        count = warmup(step)
    took = time.perf_counter() - start
    output().print(
        f"Ready: {count} combinations of types in {took:.1f} s.\nKept in {folder}.", soft_wrap=True
    )
