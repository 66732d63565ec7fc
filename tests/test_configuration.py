"""show_config, the variables of the environment, and running without the compiled engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import separable as sep
from separable import configuration
from separable.engine import availability
from separable.engine.availability import available, why_not
from separable.errors import ArgumentError

pytestmark = pytest.mark.apart

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"\b(?:SEPARABLE|NUMBA|TRITON|XDG)_[A-Z_]+\b")


def test_the_page_lists_every_variable_that_the_sources_read() -> None:
    read = set()
    for path in (ROOT / "src").rglob("*.py"):
        read |= set(NAME.findall(path.read_text(encoding="utf-8")))
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    assert read == listed
    assert {n for n in listed if n.startswith("SEPARABLE_")} <= set(configuration.VARIABLES)


def test_every_variable_that_is_read_has_one_of_these_names() -> None:
    """A variable with another name would escape the test above."""
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"(?:environ(?:\.get\(|\[)|getenv\()\s*([^,)\]]+)", text):
            assert NAME.search(name) or name in ("VARIABLE", "VARIABLE_GPU", "DEBUG", "name"), (
                path,
                name,
            )


def test_show_config_prints_what_it_returns(capsys: pytest.CaptureFixture[str]) -> None:
    found = sep.show_config(mode="dicts")
    assert found is not None
    assert json.loads(json.dumps(found)) == found
    assert sep.show_config() is None
    printed = capsys.readouterr().out
    assert printed == configuration.configuration_text(found) + "\n"
    for value in (found["separable"], found["python"], found["packages"]["numpy"]):
        assert value in printed
    assert f"threads    {sep.get_num_threads()} (" in printed
    assert found["engine"]["name"] == ("compiled" if available() else "scipy")
    if available():
        assert found["engine"]["vector_bits"] in (128, 256, 512)
        assert f"vectors of {found['engine']['vector_bits']} bits" in printed
    else:
        assert found["engine"]["reason"] == why_not()
        assert why_not() in printed


def test_where_the_number_of_threads_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEPARABLE_NUM_THREADS", raising=False)
    assert "processors" in configuration.configuration()["threads"]["source"]
    monkeypatch.setenv("SEPARABLE_NUM_THREADS", "3")
    found = configuration.configuration()
    assert found["threads"] == {"count": 3, "source": "SEPARABLE_NUM_THREADS"}
    assert found["environment"]["SEPARABLE_NUM_THREADS"] == "3"
    sep.set_num_threads(2)
    try:
        found = configuration.configuration()
        assert found["threads"] == {"count": 2, "source": "set_num_threads"}
    finally:
        sep.set_num_threads(None)


def test_no_other_mode() -> None:
    with pytest.raises(ArgumentError, match=r"`mode` must be one of stdout, dicts; got 'text'"):
        sep.show_config(mode="text")


def test_show_config_imports_no_pytorch() -> None:
    code = "import sys, separable as sep; sep.show_config(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("0.61.2", False),
        ("0.62.0", True),
        ("0.62.0rc1", True),
        ("1.0", True),
        ("dev", True),
        ("", True),
    ],
)
def test_the_oldest_numba(monkeypatch: pytest.MonkeyPatch, version: str, enough: bool) -> None:
    monkeypatch.setattr(availability, "_reason", None)
    monkeypatch.delenv(availability.VARIABLE, raising=False)
    monkeypatch.setattr(availability, "_is_installed", lambda _: True)
    monkeypatch.setattr(availability, "_version", lambda _: version)
    if enough:
        assert why_not() == ""
    else:
        with pytest.warns(RuntimeWarning, match=r'Numba 0\.61\.2 is too old.*"numba>=0\.62"'):
            assert "too old" in why_not()
        assert "too old" in why_not()  # and no second warning


def test_the_variable_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_reason", None)
    monkeypatch.setenv(availability.VARIABLE, "fast")
    with pytest.raises(
        ArgumentError, match=r"SEPARABLE_ENGINE must be one of auto, scipy; got 'fast'"
    ):
        why_not()


# --- without the engine, in a process of its own ---------------------------------------------------

BROKEN = {
    "not installed": """
        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("numba", "llvmlite"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Hidden())
    """,
    "import fails": """
        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name == "numba":
                    return importlib.machinery.ModuleSpec(name, self)
            def create_module(self, spec):
                return None
            def exec_module(self, module):
                raise {error}
        sys.meta_path.insert(0, Broken())
    """,
    "private names are gone": """
        import numba.core.compiler
        del numba.core.compiler.CompileResult._rebuild
    """,
    "compilation fails": """
        import numba.core.compiler
        def compile_extra(*_, **__):
            raise numba.core.errors.LoweringError("LLVM said no")
        numba.core.compiler.compile_extra = compile_extra
    """,
    "machine code fails": """
        import numba.core.codegen
        def finalize(self):
            raise RuntimeError("Symbol not found: __memmove")
        numba.core.codegen.CPUCodeLibrary.finalize = finalize
    """,
    "scipy is asked for": """
        import os
        os.environ["SEPARABLE_ENGINE"] = "scipy"
    """,
}
ERRORS = {
    "SystemError": 'SystemError("initialization of _internal failed")',
    "OSError": 'OSError("libllvmlite.so: cannot open shared object file")',
    "ImportError": 'ImportError("Numba needs NumPy 2.3 or less. Got NumPy 2.4.")',
    "AttributeError": "AttributeError(\"module 'numpy' has no attribute 'long'\")",
}
CASES = [
    *((name, code) for name, code in BROKEN.items() if "{error}" not in code),
    *((f"import: {e}", BROKEN["import fails"].format(error=made)) for e, made in ERRORS.items()),
]

FILTERS = """
    import importlib.machinery, sys, warnings, json
    {broken}
    warnings.simplefilter("always")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        import numpy as np
        import scipy.ndimage
        import separable as sep

        rng = np.random.default_rng(0)
        image, volume = rng.random((40, 50)), rng.random((12, 14, 16))
        kernel = sep.kernels.gaussian(1.5).dense()

        def close(got, exact, tolerance=1e-12):
            assert got.dtype == exact.dtype, (got.dtype, exact.dtype)
            assert np.allclose(got.astype(float), exact.astype(float), rtol=0, atol=tolerance)

        # A plan made before anything fails, and one made afterwards.
        plan = sep.plan(kernel, image.shape)
        exact = scipy.ndimage.convolve(image, kernel)
        close(plan(image), exact)
        close(sep.convolve(image, kernel), exact)
        for dtype in ("float32", "uint8", "uint16", "int16"):
            some = (image * 200).astype(dtype)
            full = np.rint(scipy.ndimage.convolve(some.astype(float), kernel))
            full = full if dtype != "float32" else scipy.ndimage.convolve(some.astype(float), kernel)
            close(sep.convolve(some, kernel), full.astype(dtype), 1e-3 if dtype == "float32" else 0)
        overlapping = image.copy()
        plan(overlapping, overlapping)
        close(overlapping, exact)
        close(sep.convolve(image, sep.kernels.box(9).dense()), scipy.ndimage.uniform_filter(image, 9))
        disk = sep.kernels.disk(3)
        close(sep.convolve(image, disk), scipy.ndimage.convolve(image, disk / 1.0), 1e-11)
        close(sep.ndimage.gaussian_filter(volume, 1.0), scipy.ndimage.gaussian_filter(volume, 1.0))
        close(sep.ndimage.laplace(image), scipy.ndimage.laplace(image))
        within = sep.convolve(image, sep.kernels.gaussian(6).dense(), tol=1e-2)
        close(within, scipy.ndimage.convolve(image, sep.kernels.gaussian(6).dense()), 1e-2)
        bank = sep.bank(["gaussian:2", "gaussian:2,order=0x1", "log:2"], image.shape)
        for name, band in zip(bank.names, bank(image)):
            close(band, scipy.ndimage.convolve(image, sep.kernels.parse_spec(name, 2).dense()), 1e-12)
        mask = rng.random(image.shape) > 0.3
        for dtype in ("float64", "float32", "uint8"):
            got = sep.convolve((image * 99).astype(dtype), kernel, mask=mask, fill=0)
            weight = scipy.ndimage.convolve(mask * 1.0, kernel)
            whole = scipy.ndimage.convolve((image * 99).astype(dtype) * mask * 1.0, kernel) / weight
            close(got, (np.rint(whole) if dtype == "uint8" else whole).astype(dtype), 2e-4)
        holes = np.where(mask, image, np.nan)
        assert np.isfinite(sep.convolve(holes, kernel, nan="ignore")).all()
        {more}
    engine = [w for w in said if "compiled engine" in str(w.message)]
    print(json.dumps([len(engine), len(said), *(str(w.message) for w in engine)]))
    from separable.engine.availability import why_not
    print(why_not())
"""


def without(broken: str, more: str = "") -> tuple[list[Any], str]:
    """Run filters in a process in which the engine cannot be used; return warnings and the reason."""
    parts = [textwrap.indent(textwrap.dedent(part), "    ").strip() for part in (broken, more)]
    code = textwrap.dedent(FILTERS).format(
        broken=textwrap.dedent(broken).strip(),
        more=textwrap.indent(textwrap.dedent(more).strip(), "    ").strip(),
    )
    assert parts
    environment = {k: v for k, v in os.environ.items() if k != availability.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    counts, reason = done.stdout.strip().splitlines()
    return json.loads(counts), reason


def needs_numba(name: str) -> bool:
    return name in ("private names are gone", "compilation fails", "machine code fails")


@pytest.mark.parametrize(("name", "broken"), CASES, ids=[name for name, _ in CASES])
def test_filters_run_without_the_engine(
    name: str, broken: str, tmp_path: Path, monkeypatch: Any
) -> None:
    if needs_numba(name) and not available():
        pytest.skip(f"needs the compiled engine: {why_not()}")
    monkeypatch.setenv("SEPARABLE_CACHE_DIR", str(tmp_path))  # nothing is compiled yet
    (count, every, *messages), reason = without(broken)
    assert reason
    if name == "scipy is asked for":
        assert (count, every) == (0, 0)
        return
    assert (count, every) == (1, 1), messages
    assert reason in messages[0]
    assert "pip install" in messages[0]
    assert "SEPARABLE_ENGINE=scipy" in messages[0]


LAYERS = """
        import torch
        from separable import nn
        torch.manual_seed(0)
        layer = nn.SeparableConv2d(4, 6, 3)
        x = torch.randn(2, 4, 40, 48).to(memory_format=torch.channels_last).requires_grad_()
        layer(x).sum().backward()
        taken = x.grad.clone()
        assert torch.isfinite(taken).all()
        plain = torch.nn.Sequential(*(m for m in layer.children()))
        assert torch.allclose(layer(x), plain(x), atol=1e-5)
        net = torch.nn.Sequential(layer, torch.nn.BatchNorm2d(6), torch.nn.ReLU()).eval()
        fused, report = nn.fuse(net, torch.randn(1, 4, 40, 48))
        assert report.difference < 1e-5
        assert "without the compiled engine" in str(report).splitlines()[0]
        pair = nn.SpatiallySeparableConv2d(4, 4, 5).eval()
        fused, report = nn.fuse(torch.nn.Sequential(pair).eval(), torch.randn(1, 4, 40, 48))
        tensor = torch.from_numpy(image)
        assert np.allclose(sep.convolve(tensor, kernel).numpy(), exact)
"""


@pytest.mark.parametrize("name", ["not installed", "compilation fails"])
def test_layers_run_without_the_engine(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("torch")
    if needs_numba(name) and not available():
        pytest.skip(f"needs the compiled engine: {why_not()}")
    monkeypatch.setenv("SEPARABLE_CACHE_DIR", str(tmp_path))
    (count, _, *messages), _ = without(BROKEN[name], LAYERS)
    assert count == 1, messages


def test_layers_are_the_first_to_find_that_compilation_fails(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Each way into the compiled kernels of layers, with an engine that nobody has tried before."""
    pytest.importorskip("torch")
    if not available():
        pytest.skip(f"needs the compiled engine: {why_not()}")
    monkeypatch.setenv("SEPARABLE_CACHE_DIR", str(tmp_path))
    tries = """
        import torch, warnings
        warnings.simplefilter("ignore")
        from separable import nn
        from separable.engine import availability
        net = nn.DepthwiseConv2d(4, 4, 3)
        both = nn.SeparableConv2d(4, 6, 3)
        last = torch.randn(2, 4, 40, 48).to(memory_format=torch.channels_last)
        point = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 1), torch.nn.ReLU()).eval()
        pair = torch.nn.Sequential(nn.SpatiallySeparableConv2d(4, 4, 5)).eval()
        def trained(layer):
            x = last.clone(memory_format=torch.preserve_format).requires_grad_()
            layer(x).square().sum().backward()
            return x.grad
        ways = [
            lambda: net(last), lambda: both(last), lambda: net(last.contiguous()),
            lambda: trained(net), lambda: trained(both),
            lambda: nn.fuse(torch.nn.Sequential(net).eval(), last)[0](last),
            lambda: nn.fuse(torch.nn.Sequential(both).eval(), last)[0](last),
            lambda: nn.fuse(point, last)[0](last), lambda: nn.fuse(pair, last)[0](last),
        ]
        for way in ways:
            availability._reason = None
            with torch.set_grad_enabled(True):
                assert torch.isfinite(way()).all()
        assert availability.why_not()
    """
    code = "import sys\n" + textwrap.dedent(BROKEN["compilation fails"]) + textwrap.dedent(tries)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["machine", "--show"], 0, "engine     SciPy: SEPARABLE_ENGINE=scipy is set"),
        (["warmup"], 2, "the compiled engine is not available: SEPARABLE_ENGINE=scipy is set"),
        (["plan", "-k", "gaussian:2", "-s", "64x64"], 0, "SEPARABLE_ENGINE=scipy is set"),
    ],
)
def test_the_command_line_without_the_engine(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    from separable.cli import run

    monkeypatch.setattr(availability, "_reason", "SEPARABLE_ENGINE=scipy is set")
    monkeypatch.setenv("COLUMNS", "200")
    assert run(arguments) == code
    captured = capsys.readouterr()
    if arguments[0] != "plan":
        assert said in captured.out + captured.err


def test_a_method_by_name_says_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_reason", "Numba cannot be found")
    kernel = sep.kernels.box(9).dense()
    for method in ("fused", "dense", "box", "recursive"):
        with pytest.raises(ArgumentError, match=r"cannot run this filter: Numba cannot be found$"):
            sep.plan(kernel, (64, 64), method=method)
    assert sep.plan(kernel, (64, 64)).chosen.method == "passes"


def test_a_profile_measured_without_the_engine_keeps_its_rates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from separable import calibrate
    from separable.engine import METHODS
    from separable.machine import shipped

    monkeypatch.setattr(availability, "_reason", "Numba cannot be found")
    one = calibrate.Case("passes", "float32", (64, 64), ("even", 5, 5), (0, 1))
    fused = calibrate.Case("fused", "float32", (64, 64), ("even", 5, 5), (0, 1))
    monkeypatch.setattr(calibrate, "cases", lambda: iter([one, fused]))
    made = calibrate.measure()
    assert made.rates["passes"] != shipped().rates["passes"]
    for name, method in METHODS.items():
        if method.fallback and not method.rates_of:
            assert made.rates[name] == shipped().rates[name]
