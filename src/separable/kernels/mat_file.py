"""Kernels in MATLAB's files, through SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError

__all__ = ["read_mat"]

LARGEST = 1 << 28  # bytes of a file


def read_mat(path: Path) -> NDArray[Any]:
    """Return the only matrix of numbers in a MAT-file (versions 4 to 7).

    Parameters
    ----------
    path : path

    Raises
    ------
    FileError
        If there is no such file, it is damaged, of version 7.3, or holds no or several matrices.
    """
    from scipy.io import loadmat  # start-up time

    try:
        if path.stat().st_size > LARGEST:
            raise FileError(f"cannot read {path}: a kernel as MAT-file has at most {LARGEST} bytes")
        found = loadmat(str(path), chars_as_strings=False)
    except NotImplementedError:
        raise FileError(
            f"cannot read {path}: it is a MAT-file of version 7.3. Save it in MATLAB with "
            f"save('{path.name}', 'k', '-v7')"
        ) from None
    except OSError as error:
        reason = "there is no such file" if not path.exists() else str(error)
        raise FileError(f"cannot read {path}: {reason}") from None
    except FileError:
        raise
    except Exception as error:  # of damaged files: SciPy raises errors of many types
        raise FileError(f"cannot read {path}: it is no MAT-file or damaged ({error})") from None
    matrices = {
        name: value for name, value in found.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and not name.startswith("__")
    }  # fmt: skip
    if len(matrices) != 1:
        names = ", ".join(sorted(matrices)) or "none"
        raise FileError(f"{path} must hold one matrix of numbers; it holds {names}")
    return next(iter(matrices.values()))
