"""Opening a .pt2 never runs code: every member that could carry a payload does, one at a time."""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from separable.cli.main import run
from separable.errors import ArgumentError, FileError
from separable.nn.formats import open_network, tensors_only
from separable.nn.formats.archives import Archive, ArchiveError

MARKER = "ran"
Members = dict[str, bytes]


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.code = f"open({str(folder / MARKER)!r}, 'w').close()"

    def __reduce__(self) -> Any:
        return exec, (self.code,)


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class Net(nn.Module):
    """A convolution, a constant, a size that may change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("shift", torch.arange(4.0).view(4, 1, 1))
        self.scale = torch.ones(3)

    def forward(self, x: torch.Tensor, *, flag: bool = True) -> dict[str, torch.Tensor]:
        scaled = x * self.scale.view(3, 1, 1)
        return {"y": self.conv(scaled) + self.shift, "n": torch.zeros(2 * x.shape[0] + 1)}


@pytest.fixture(scope="module")
def program() -> Members:
    """The members of a good archive, without its root folder."""
    inputs = (torch.randn(2, 3, 8, 8),)
    shapes = {"x": {0: torch.export.Dim("b", min=2, max=32)}, "flag": None}
    exported = torch.export.export(Net().eval(), inputs, {"flag": True}, dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(exported, file)
    with zipfile.ZipFile(file) as archive:
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}


def written(path: Path, members: Members, root: str = "m/") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(root + name, content)
    return path


def edited(members: Members, edit: Callable[[dict[str, Any]], Any]) -> Members:
    """The archive with the JSON of its program changed."""
    text = json.loads(members["models/model.json"])
    edit(text)
    return {**members, "models/model.json": json.dumps(text).encode()}


def refuses(path: Path, match: str = "cannot read") -> None:
    """Opening it is refused by our checks, and nothing in it has run."""
    with pytest.raises(FileError, match=match) as error:
        open_network(str(path))
    assert not (path.parent / MARKER).exists(), "the file ran code"
    assert "or a damaged one" not in str(error.value), "PyTorch was asked"
    assert "\n" not in str(error.value)


def test_a_good_archive_does_what_it_did(tmp_path: Path, program: Members) -> None:
    """Read by us and by PyTorch it gives the same, also with its sizes that may change."""
    path = written(tmp_path / "m.pt2", program)
    source: Any = open_network(str(path))
    wanted = torch.export.load(path)
    assert str(source.program.graph) == str(wanted.graph)
    assert source.program.range_constraints == wanted.range_constraints
    assert source.input_shapes() is None or source.input_shapes() == [(2, 3, 8, 8)]
    for batch in (2, 5):
        x = torch.randn(batch, 3, 8, 8)
        found, other = source.module(x, flag=True), wanted.module()(x, flag=True)
        torch.testing.assert_close(found, other, rtol=0, atol=0)


# Members


def _unpickled(members: Members, evil: Evil) -> Iterator[tuple[str, Members]]:
    """Every way in which PyTorch would unpickle a member."""
    for payload in (saved(evil), pickle.dumps(evil), saved({"conv.weight": evil}),
                    saved((((torch.zeros(2, 3, 8, 8), evil),), {}))):  # fmt: skip
        for name in ("sample_inputs/model", "weights/model", "constants/model"):
            yield name, {**members, f"data/{name}.pt": payload}
        for kind in ("weights", "constants"):
            config = f"data/{kind}/model_{kind}_config.json"
            described = json.loads(members[config])
            first = next(iter(described["config"].values()))
            first["use_pickle"] = True
            changed = {**members, config: json.dumps(described).encode()}
            yield f"pickled {kind}", {**changed, f"data/{kind}/{first['path_name']}": payload}
            for prefix in ("custom_obj_0", "opaque_obj_0"):
                first["path_name"] = prefix
                changed = {**members, config: json.dumps(described).encode()}
                yield prefix, {**changed, f"data/{kind}/{prefix}": payload}
        yield "unlisted object", {**members, "data/constants/custom_obj_7": payload}
        old = {
            "version": b"8.2",
            "serialized_exported_program.json": members["models/model.json"],
            "serialized_state_dict.pt": saved({}),
            "serialized_constants.pt": saved({}),
            "serialized_example_inputs.pt": saved(((), {})),
        }
        for name in list(old)[2:]:
            yield f"old {name}", {**old, name: payload}
            yield (
                f"old {name} as json",
                {
                    **{n: c for n, c in old.items() if n != name},
                    name.replace(".pt", ".json"): payload,
                },
            )


def test_nothing_is_unpickled(tmp_path: Path, program: Members) -> None:
    evil = Evil(tmp_path)
    count = 0
    for name, members in _unpickled(program, evil):
        root = "" if name.startswith("old ") else "m/"
        path = written(tmp_path / "evil.pt2", members, root)
        refuses(path)
        count += 1
    assert count == 4 * (3 + 2 * 3 + 1 + 6)


def test_the_command_says_so_in_one_line(
    tmp_path: Path, program: Members, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {**program, "data/sample_inputs/model.pt": saved(Evil(tmp_path))}
    path = written(tmp_path / "evil.pt2", members)
    assert run(["convert", str(path), "-o", str(tmp_path / "out.pt2")]) == 2
    message = capsys.readouterr().err
    assert "sample inputs" in message
    assert "Export the model again" in message
    assert "Traceback" not in message
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("data/aotinductor/model/model.so", "compiled by AOTInductor"),
        ("data/constants/opaque_obj_0", "class of their own"),
        ("data/executorch/model.pte", "ExecuTorch"),
        ("code/__torch__.py", "TorchScript"),
        ("inner.zip", "which no program has"),
        ("../evil.py", "leads out of the archive"),
        ("data/../../evil.py", "leads out of the archive"),
        ("data\\weights\\x", "leads out of the archive"),
    ],
)
def test_other_members_are_refused(tmp_path: Path, program: Members, name: str, match: str) -> None:
    refuses(written(tmp_path / "m.pt2", {**program, name: pickle.dumps(Evil(tmp_path))}), match)


def test_an_absolute_name_is_refused(tmp_path: Path, program: Members) -> None:
    path = written(tmp_path / "m.pt2", program)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("/etc/evil", b"")
    refuses(path, "leads out of the archive")


def test_a_member_that_occurs_twice_is_refused(tmp_path: Path, program: Members) -> None:
    """The first or the last may be read, by whom one asks."""
    path = written(tmp_path / "m.pt2", program)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("m/data/sample_inputs/model.pt", saved(Evil(tmp_path)))
    refuses(path, "occurs twice")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path, program: Members) -> None:
    path = written(tmp_path / "m.pt2", program)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data/weights/weight_9", bytes(80 << 20))
    refuses(path, "would unpack to")


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """Many entries of the directory may name the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a0", bytes(1 << 16))
        (info,) = archive.infolist()
        for i in range(1, 5):
            other = zipfile.ZipInfo(f"a{i}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(other, field, getattr(info, field))
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
    with pytest.raises(ArchiveError, match="overlap"):
        Archive(file)


@pytest.mark.parametrize("claim", [10**6, 10**15])
def test_a_weight_larger_than_its_bytes_is_refused(
    tmp_path: Path, program: Members, claim: int
) -> None:
    config = "data/weights/model_weights_config.json"
    described = json.loads(program[config])
    meta = described["config"]["conv.weight"]["tensor_meta"]
    meta["sizes"][0]["as_int"] = claim
    meta["strides"] = [{"as_int": 0}] * 4
    path = written(tmp_path / "m.pt2", {**program, config: json.dumps(described).encode()})
    refuses(path, "numbers by its description")


# Texts that PyTorch evaluates, looks up or makes code of


def _graph(text: dict[str, Any]) -> Any:
    return text["graph_module"]["graph"]


def _set_size(text: dict[str, Any], expression: str) -> None:
    _graph(text)["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = expression


def _rename(text: dict[str, Any], name: str) -> None:
    """Give an input another name wherever it is used."""
    whole = json.dumps(text).replace('"name": "x"', f'"name": {json.dumps(name)}')
    whole = whole.replace('"x": {"dtype"', f'{json.dumps(name)}: {{"dtype"')
    text.clear()
    text.update(json.loads(whole))


def _top(text: dict[str, Any]) -> Any:
    return text["graph_module"]["module_call_graph"][0]["signature"]


def _tree(kind: str, context: str) -> str:
    leaf = {"type": None, "context": None, "children_spec": []}
    return json.dumps([1, {"type": kind, "context": context, "children_spec": [leaf, leaf]}])


def _call(text: dict[str, Any], target: str, argument: dict[str, Any]) -> None:
    _graph(text)["nodes"][0]["target"] = target
    _graph(text)["nodes"][0]["inputs"] = [{"name": "a", "arg": argument, "kind": 1}]


RUN = "__import__('pathlib').Path({marker!r}).touch()"
EDITS: dict[str, Callable[[dict[str, Any], str, str], Any]] = {
    "size": lambda t, run, _: _set_size(t, run),
    "size in a call": lambda t, run, _: _set_size(t, f"Add(Integer(1), {run})"),
    "size by attributes": lambda t, run, _: _set_size(
        t, "().__class__.__base__.__subclasses__()[0]"
    ),
    "size by a lambda": lambda t, run, _: _set_size(t, f"(lambda: {run})()"),
    "size by symbols": lambda t, run, _: _set_size(t, "Symbol(exec)"),
    "size that takes for ever": lambda t, run, _: _set_size(t, "9**9**9**9"),
    "size by nested powers": lambda t, run, _: _set_size(
        t, "Pow(Pow(Pow(Integer(9), Integer(60)), Integer(60)), Integer(60))"
    ),
    "size by factorials": lambda t, run, _: _set_size(t, "factorial(10**9)"),
    "symbol that nobody declared": lambda t, run, _: _set_size(t, "Symbol('s99999')"),
    "range": lambda t, run, _: t["range_constraints"].update(
        {run: {"min_val": 2, "max_val": 4}}
    ),
    "limit": lambda t, run, _: t["range_constraints"].update(
        s1={"min_val": run, "max_val": 4}
    ),
    "count of symbols": lambda t, run, _: t["range_constraints"].update(
        u999999999={"min_val": 2, "max_val": 4}
    ),
    "os.system": lambda t, run, marker: _call(
        t, "torch.os.system", {"as_string": f"touch {marker}"}
    ),
    "torch.load": lambda t, run, marker: _call(t, "torch.load", {"as_string": marker}),
    "load_library": lambda t, run, marker: _call(
        t, "torch.ops.load_library", {"as_string": marker}
    ),
    "dunder": lambda t, run, _: _call(
        t, "torch.ops.aten.__class__.__init__", {"as_string": run}
    ),
    "methodcaller": lambda t, run, _: _call(t, "_operator.methodcaller", {"as_string": "x"}),
    "aten.save": lambda t, run, marker: _call(
        t, "torch.ops.aten.save.default", {"as_string": marker}
    ),
    "aten.from_file": lambda t, run, marker: _call(
        t, "torch.ops.aten.from_file.default", {"as_string": marker}
    ),
    "load_tensor": lambda t, run, marker: _call(
        t, "torch.ops.debugprims.load_tensor.default", {"as_string": marker}
    ),
    "triton": lambda t, run, _: _call(
        t, "torch.ops.higher_order.triton_kernel_wrapper_functional", {"as_string": run}
    ),
    "extension": lambda t, run, _: _call(t, "#evil:op", {"as_string": run}),
    "operator as argument": lambda t, run, _: _call(
        t, "torch.ops.aten.relu.default", {"as_operator": "torch.os.system"}
    ),
    "name of an input": lambda t, run, _: _rename(t, f"x={run}"),
    "name of a value": lambda t, run, _: _graph(t)["nodes"][0].update(name=f"a;{run};b"),
    "name of a keyword": lambda t, run, _: _graph(t)["nodes"][0]["inputs"][0].update(
        name=f"a={run},b"
    ),
    "name of a parameter": lambda t, run, _: t["graph_module"]["signature"]["input_specs"][0][
        "parameter"
    ].update(parameter_name=f'a"){run}#'),
    "name of an argument": lambda t, run, _: _top(t).update(forward_arg_names=[f"x={run}"]),
    "guard": lambda t, run, _: t.update(guards_code=[run]),
    "constant text": lambda t, run, _: _graph(t)["inputs"].append(
        {"as_string": f"' if {run} else '"}
    ),
    "module to import": lambda t, run, _: _top(t).update(
        in_spec=_tree("collections.defaultdict", json.dumps(
            {"default_factory_module": "evil_module", "default_factory_name": "f",
             "dict_context": ["a", "b"]}))
    ),
    "enum to import": lambda t, run, _: _top(t).update(
        out_spec=_tree("builtins.dict", json.dumps(
            [{"__enum__": True, "fqn": "evil_module:E", "name": "a"}, "b"]))
    ),
    "named tuple": lambda t, run, _: _top(t).update(
        out_spec=_tree("collections.namedtuple", json.dumps("a.B"))
    ),
    "object": lambda t, run, _: _graph(t).update(
        custom_obj_values={"o": {"name": "o", "class_fqn": "__torch__.torch.classes.A"}}
    ),
    "field of a later version": lambda t, run, _: _graph(t).update(source_code=run),
}  # fmt: skip
HARMLESS = ("guard",)  # left out: the rest is read


@pytest.mark.parametrize("name", EDITS)
def test_no_text_is_run(
    tmp_path: Path, program: Members, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the program is used, where names and guards have become code."""
    marker = str(tmp_path / MARKER)
    (tmp_path / "evil_module.py").write_text(f"open({marker!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = RUN.format(marker=marker)
    path = written(tmp_path / "m.pt2", edited(program, lambda text: EDITS[name](text, run, marker)))
    if name in HARMLESS:
        source: Any = open_network(str(path))
        source.module(torch.randn(2, 3, 8, 8), flag=True)
        assert not (tmp_path / MARKER).exists()
    else:
        refuses(path)


# Tensors saved by torch.save


def test_no_pickle_is_read_by_a_pytorch_whose_unpickler_has_faults(
    tmp_path: Path, program: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    torch.save(nn.Conv2d(3, 4, 3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ArgumentError, match=re.escape("torch>=2.10")):
        tensors_only.load_tensors(tmp_path / "w.pt", "w.pt")
    with pytest.raises(ArgumentError, match="no example inputs"):  # for the one that is no tensor
        open_network(str(written(tmp_path / "m.pt2", program)))


def test_the_layout_of_older_pytorch_is_read(tmp_path: Path, program: Members) -> None:
    """Files of PyTorch 2.5 to 2.7, and of 2.8, whose weights are pickled tensors."""
    new: Any = open_network(str(written(tmp_path / "new.pt2", program)))
    x = torch.randn(3, 3, 8, 8)
    wanted = new.module(x, flag=True)
    state, constants = new.program.state_dict, new.program.constants
    old = {
        "version": b"8.2",
        "serialized_exported_program.json": program["models/model.json"],
        "serialized_state_dict.pt": saved(state),
        "serialized_constants.pt": saved(constants),
        "serialized_example_inputs.pt": program["data/sample_inputs/model.pt"],
        "extra_files/note.txt": b"text",
    }
    middle = {n: c for n, c in program.items() if not re.search("weight_|tensor_|config", n)}
    middle |= {"data/weights/model.pt": saved(state), "data/constants/model.pt": saved(constants)}
    for members, root in ((old, ""), (middle, "m/")):
        source: Any = open_network(str(written(tmp_path / "old.pt2", members, root)))
        torch.testing.assert_close(source.module(x, flag=True), wanted, rtol=0, atol=0)
