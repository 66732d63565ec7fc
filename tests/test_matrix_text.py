"""Kernels as numbers: typed, in text and CSV files, as JSON, on standard input and output."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import separable as sep
from separable.cli.main import run
from separable.errors import KernelError
from separable.files import read_image, write_image
from separable.kernels.matrix_text import is_matrix_text, matrix_json, matrix_text, parse_matrix

IMAGE = np.random.default_rng(9).integers(0, 256, (20, 30), dtype=np.uint8)
BINOMIAL = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2 1; 2 4 2; 1 2 1", BINOMIAL),
        ("1,2,1;2,4,2;1,2,1;", BINOMIAL),
        ("1\t2 1\n2 4 2\r\n1 2 1\n", BINOMIAL),
        ("\ufeff# weights\n1, 2, 1  # first\n2, 4, 2\n1, 2, 1", BINOMIAL),
        ("[[1, 2, 1], [2, 4, 2], [1, 2, 1]]", BINOMIAL),
        ('{"kernel": [[1, 2, 1], [2, 4, 2], [1, 2, 1]]}', BINOMIAL),
        ("1/4 1/2 1/4", [[0.25, 0.5, 0.25]]),
        ("-1 0 +1", [[-1, 0, 1]]),
        (".5e1;-2.", [[5.0], [-2.0]]),
        ("1 2;3 4;;5 6;7 8", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("1 2\n3 4\n\n5 6\n7 8\n", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("7", [[7]]),
    ],
)
def test_numbers_are_read(text: str, expected: list[object]) -> None:
    values, operation = parse_matrix(text)
    np.testing.assert_array_equal(values, expected)
    assert values.dtype.kind == np.array(expected).dtype.kind
    assert operation == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2; 3", "rows and planes of one size and only numbers; got rows of 1 and 2 numbers"),
        ("1 two 3", "got 'two'"),
        ("1/0", "got '1/0'"),
        ("", "got none"),
        (" ; ;", "got none"),
        ("{", "a kernel in JSON cannot be read"),
        ('{"weights": 1}', 'an object with the key "kernel"; got NoneType'),
        ('{"kernel": [["a"]]}', "only numbers"),
        ('{"kernel": [[1]], "operation": "turn"}', "must be correlate or convolve; got 'turn'"),
        ("[[1], [2, 3]]", "rows of 1 and 2 numbers"),
        ("[" * 3000, "cannot be read"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        parse_matrix(text)


@pytest.mark.parametrize("text", ["gaussian:2", "log:2", "psf.npy", "e", "", "box", "5x5", "nan"])
def test_names_are_no_numbers(text: str) -> None:
    assert not is_matrix_text(text)


KERNELS = arrays.arrays(
    st.sampled_from([np.float64, np.int32]),
    arrays.array_shapes(min_dims=2, max_dims=3, max_side=4).filter(
        lambda s: len(s) == 2 or s[0] > 1
    ),
    elements={"allow_nan": False, "allow_infinity": False},
)


@given(KERNELS, st.sampled_from(["correlate", "convolve"]))
def test_what_is_written_is_read(kernel: np.ndarray, operation: str) -> None:
    for text in (matrix_text(kernel, operation), matrix_json(kernel, "a kernel", operation)):
        values, found = parse_matrix(text)
        np.testing.assert_array_equal(values, kernel)
        assert found == operation


def filtered(tmp_path: Path, kernel: str, *options: str) -> np.ndarray:
    write_image(tmp_path / "in.npy", IMAGE, overwrite=True)
    command = ["filter", str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), "-k", kernel]
    assert run([*command, "--force", "--dtype", "int32", *options]) == 0
    return read_image(tmp_path / "out.npy")[0]


def test_a_kernel_may_be_typed_or_in_a_text_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = [[0, 1, 2], [-1, 5, 0], [1, 0, 0]]
    expected = sep.convolve(IMAGE, kernel, output="int32")
    np.testing.assert_array_equal(filtered(tmp_path, "0 1 2; -1 5 0; 1 0 0"), expected)
    assert "Filtered with 0 1 2; -1 5 0; 1 0 0 (3x3, flipped)" in capsys.readouterr().out
    for name, text in (
        ("k.csv", "0,1,2\n-1,5,0\n1,0,0\n"), ("k.txt", "0 1 2\n-1 5 0\n1 0 0"),
        ("k.json", json.dumps(kernel)),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        np.testing.assert_array_equal(filtered(tmp_path, str(tmp_path / name)), expected)
    line = sep.convolve(IMAGE, [1, 2, 3], axes=0, output="int32")
    np.testing.assert_array_equal(filtered(tmp_path, "1 2 3", "--axes", "0"), line)


@pytest.mark.parametrize("form", ["--text", "--json"])
def test_kernels_go_from_command_to_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Sobel is not symmetric: the operation must arrive too."""
    assert run(["kernel", "sobel:axis=0,size=5", form]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(capsys.readouterr().out))
    expected = sep.correlate(IMAGE, sep.kernels.sobel(axis=0, size=5), output="int32")
    np.testing.assert_array_equal(filtered(tmp_path, "-"), expected)
    assert "the kernel of standard input (5x5, not flipped)" in capsys.readouterr().out


def test_a_plan_takes_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "-k", "1 2 1; 2 4 2; 1 2 1", "-s", "64x64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kernel", "1 2; 3"], "rows of 1 and 2 numbers"),
        (["kernel", "-"], "got none. It was read from standard input"),
        (["kernel", "missing.csv"], "missing.csv: there is no such file"),
        (["kernel", "sobel", "--text", "--json"], "give `--text` or `--json`, not both"),
        (["kernel", "1 2 1", "--spacing", "2mm"], "`--spacing` is for named kernels"),
    ],
)
def test_one_message_each(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
