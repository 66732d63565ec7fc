"""scikit-image's own tests of its ridge, Hessian and structure tensor filters, run on ours, where it ships them.

Versions up to 0.25 install their tests; `SEPARABLE_SKIMAGE` names a folder with an unpacked wheel otherwise. Tests that
fail are listed in ``docs/features.md`` with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

skimage = pytest.importorskip("skimage")

pytestmark = pytest.mark.peers
PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
FILES = ("filters/tests/test_ridges.py", "feature/tests/test_corner.py")
OTHERS = (
    "moravec harris shi foerstner fast subpix num_peaks orientations blank noisy corner rotated"
)
CONFTEST = """
import skimage.feature, skimage.filters
from separable import features as ours
for name in ("frangi", "sato", "meijering"):
    setattr(skimage.filters, name, getattr(ours, name))
for name in ("structure_tensor", "structure_tensor_eigenvalues", "hessian_matrix", "hessian_matrix_eigvals"):
    setattr(skimage.feature, name, getattr(ours, name))
skimage.feature.hessian_matrix_det = lambda image, sigma=1, approximate=True: (
    ours.hessian_matrix_det(image, sigma)
)
"""


def test_what_fails_is_documented(tmp_path: Path) -> None:
    folder = Path(os.environ.get("SEPARABLE_SKIMAGE", Path(skimage.__file__).parents[1]))
    paths = [folder / "skimage" / name for name in FILES]
    if not all(path.exists() for path in paths):
        pytest.skip(f"scikit-image {skimage.__version__} is installed without its tests")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for path in paths:
        shutil.copy(path, tmp_path / f"own_{path.name}")
    words = "not (" + " or ".join(OTHERS.split()) + ")"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "--rootdir", ".",
         "-o", "python_files=own_test*.py", "-k", words, "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = set(re.findall(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE))
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout + done.stderr
    assert int(passed[1]) >= 18
    assert failed <= set(re.findall(r"^\| `(test_\w+)` \|", PAGE, re.MULTILINE)), done.stdout
