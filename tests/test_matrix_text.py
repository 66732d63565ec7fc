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
from scipy.io import savemat

import separable as sep
from separable.cli.main import run
from separable.errors import KernelError
from separable.files import read_image, write_image
from separable.kernels.matrix_parser import is_matrix_text, parse_matrix
from separable.kernels.matrix_text import matrix_json, matrix_text

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
        ("[1 2 1; 2 4 2; 1 2 1]", BINOMIAL),
        ("[1 2 1\n 2 4 2\n 1 2 1]", BINOMIAL),
        ("[1, 2, 1; ...\n 2, 4, 2; 1, 2, 1];", BINOMIAL),
        ("[1 2 1; 2 4 2] % MATLAB", [[1, 2, 1], [2, 4, 2]]),
        ("[1 2 1]", [[1, 2, 1]]),
        ("[1, 2, 1]", [1, 2, 1]),
        ("np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])", BINOMIAL),
        ("numpy.array([[1, 2], [2, 4]], dtype=np.uint8)", [[1, 2], [2, 4]]),
        (
            "array([[0.25, 0.5 , 0.25],\n       [0.5 , 1.  , 0.5 ]])",
            [[0.25, 0.5, 0.25], [0.5, 1, 0.5]],
        ),
        ("[[1 2 1]\n [2 4 2]\n [1 2 1]]", BINOMIAL),
        ("[[1 2\n  3]\n [4 5\n  6]]", [[1, 2, 3], [4, 5, 6]]),
        ("1/16 * [1 2 1; 2 4 2; 1 2 1]", (np.array(BINOMIAL) / 16).tolist()),
        ("(1/4)*[1 2 1]", [[0.25, 0.5, 0.25]]),
        ("[1 2 1; 2 4 2; 1 2 1] / 16", (np.array(BINOMIAL) / 16).tolist()),
        ("[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("((1, 2), (3, 4))", [[1, 2], [3, 4]]),
        ("1+2j 1; 0 -1j", [[1 + 2j, 1], [0, -1j]]),
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
        ("1 2; 3", "of one size and only numbers; got 2 numbers in row 1 and 1 in row 2"),
        ("1 2;3 4;;5 6", "got 2 rows in plane 1 and 1 in plane 2"),
        ("1 2 3\n1 two 3", "got 'two' in row 2, place 2"),
        ("[1 2; 3 x]", "got 'x' in row 2, place 2"),
        ("0,25 0,5 0,25", "commas as decimals; write 0.25 for 0,25"),
        ("[1 2; 3 4", "brackets of a kernel do not match"),
        ("[1 2] 3]", "brackets of a kernel do not match"),
        ("[[1 2] 3]", "numbers beside brackets"),
        ("[[1, 2], []]", "empty brackets"),
        ("[1 2] / 0", "cannot be divided by 0"),
        ("1/0 * [1 2]", "cannot be divided by 0"),
        ("[[1 2 ... 9]]", r"got '\.\.\.' in row 1, place 3"),
        ("1/0", "got '1/0'"),
        ("", "got none"),
        (" ; ;", "got none"),
        ('{"', "a kernel in JSON cannot be read"),
        ('{"weights": 1}', 'an object with the key "kernel"; got NoneType'),
        ('{"kernel": [["a"]]}', "only numbers"),
        ('{"kernel": [[1]], "operation": "turn"}', "must be correlate or convolve; got 'turn'"),
        ("[[1], [2, 3]]", "1 numbers in row 1 and 2 in row 2"),
        ("1 2; 3 inf", "must be finite; got 'inf' in row 2, place 2"),
        ("0,5 0,25; 0,25 0,1", "row 1 seems to have commas as decimals; write 0.5 for 0,5"),
        ("[1 2; 0,25 0,1]", "row 2 seems to have commas as decimals; write 0.25 for 0,25"),
        ("0,5;0,25\n0,25;0,1", "row 1 seems to have commas as decimals"),
        ("[" * 3000, "at most 16 brackets within each other"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    """Each message says where the mistake is."""
    with pytest.raises(KernelError, match=message):
        parse_matrix(text)


@pytest.mark.parametrize(
    "text", ["gaussian:2", "log:2", "psf.npy", "e", "", "box", "5x5", "nan", "5/9.png", "3 x.txt"]
)
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
    """Also as MATLAB and NumPy write it."""
    rows = [
        "; ".join(
            " ".join(f"{float(v)!r}" for v in row) for row in kernel.reshape(-1, kernel.shape[-1])
        )
    ]
    for text in (repr(kernel.tolist()), f"np.array({kernel.tolist()!r})", f"[{rows[0]}]"):
        values, _ = parse_matrix(text)
        np.testing.assert_array_equal(values.reshape(kernel.shape), kernel)
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
        (["kernel", "1 2; 3"], "got 2 numbers in row 1 and 1 in row 2"),
        (["kernel", "1 two 3"], "got 'two' in row 1, place 2"),
        (["kernel", "1 nan 3"], "must be finite; got 'nan' in row 1, place 2"),
        (["kernel", "x 2 1; 2 4 2"], "got 'x' in row 1, place 1"),
        (["kernel", "[]"], "got empty brackets"),
        (["kernel", ""], "or numbers, such as 1 2 1; 2 4 2; 1 2 1; got an empty text"),
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


def test_text_is_a_kernel_wherever_kernels_are_taken(tmp_path: Path) -> None:
    expected = sep.convolve(IMAGE, [[1, 2, 1], [2, 4, 2]], output="int32")
    text = "1 2 1; 2 4 2"
    np.testing.assert_array_equal(sep.convolve(IMAGE, text, output="int32"), expected)
    np.testing.assert_array_equal(sep.convolve(IMAGE.tolist(), text, output="int32"), expected)
    np.testing.assert_array_equal(
        sep.plan(text, IMAGE.shape, "uint8", output="int32")(IMAGE), expected
    )
    bank = sep.bank({"a": text}, IMAGE.shape, IMAGE.dtype, output="int32", operation="convolve")
    np.testing.assert_array_equal(bank(IMAGE)[0], expected)
    np.save(tmp_path / "in.npy", IMAGE)
    sep.convolve(tmp_path / "in.npy", text, output=tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), sep.convolve(IMAGE, text))
    line = sep.correlate(IMAGE, "1 2 3", axes=1, output="int32")
    np.testing.assert_array_equal(line, sep.correlate(IMAGE, [1, 2, 3], axes=1, output="int32"))
    volume = np.random.default_rng(0).random((6, 7, 8))
    smooth = sep.kernels.gaussian(1, ndim=3)
    np.testing.assert_array_equal(sep.convolve(volume, "gaussian:1"), sep.convolve(volume, smooth))
    with pytest.raises(KernelError, match="a kernel of 3 axes is needed; got 2 axes"):
        sep.convolve(volume, text)


def test_a_kernel_may_be_in_a_file_of_matlab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "k.mat"
    savemat(path, {"k": np.array(BINOMIAL), "title": "binomial"})
    np.testing.assert_array_equal(
        filtered(tmp_path, str(path)), sep.convolve(IMAGE, BINOMIAL, output="int32")
    )
    assert run(["kernel", str(path)]) == 0
    assert "Separable: the product of one vector per axis." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.eye(3), "b": np.eye(2)}, "must hold one matrix of numbers; it holds a, b"),
        ({"a": "text"}, "it holds none"),
        (b"nonsense" * 40, "no MAT-file or damaged"),
        (b"", "no MAT-file or damaged"),
        (None, "there is no such file"),
        (b"MATLAB 7.3 MAT-file".ljust(116) + b"\0" * 8 + b"\0\2IM" + b"\0" * 400, "of version 7.3"),
    ],
)
def test_files_of_matlab_that_hold_no_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, message: str
) -> None:
    path = tmp_path / "k.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        savemat(path, content)
    assert run(["kernel", str(path)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_messages_lead_to_the_right_notation(capsys: pytest.CaptureFixture[str]) -> None:
    for name, message in (
        ("wavelet:coif1", "Write it as wavelet:coif1,BANDS"),
        ("wavelet:coif1", "one letter per axis, L for low-pass and H for high-pass"),
        ("gaussian:2,order=1,0", "joined by x: order=1x0"),
    ):
        assert run(["kernel", name]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("options", [[], ["--json"], ["--rank", "1"]])
def test_a_matrix_may_begin_with_a_minus(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A matrix is not taken for an option, wherever it stands."""
    for text in ("-1 0 1; -2 0 2; -1 0 1", "-1 0 1\n-2 0 2\n-1 0 1"):
        assert run(["kernel", *options, text]) == 0
        printed = capsys.readouterr().out
        if "--json" in options:
            assert json.loads(printed)["kernel"] == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
        else:
            assert "-1 0 1; -2 0 2; -1 0 1: 3x3, sum 0" in printed
    assert run(["plan", "-s", "64x64", "-k", "-1 0 1; -2 0 2; -1 0 1"]) == 0
    assert "9 dense" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["3", "6", "9"], ["-1", "0", "1"], ["3", "6", "9;", "4", "8", "12"]]
)
def test_a_matrix_without_quotes_is_told_to_have_some(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kernel", *words]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert 'Write a matrix in quotes, for example "1 2 1; 2 4 2; 1 2 1".' in message


def test_a_hundred_thousand_numbers_are_read() -> None:
    """A large kernel is read to the last bit, and a mistake behind it is found."""
    kernel = np.round(np.random.default_rng(0).random((100, 1000)), 4)
    text = "\n".join(" ".join(f"{v:g}" for v in row) for row in kernel)
    found, _ = parse_matrix(text)
    np.testing.assert_array_equal(found, kernel)
    with pytest.raises(KernelError, match="in row 101, place 1"):
        parse_matrix(text + "\nx")
