"""Exact output of `separable cost` and of a ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from separable.cli import run

HERE = Path(__file__).parent

COMMANDS = {
    "conv": "conv --in 12x12x3 --kernel 5x5 --filters 256",
    "separable": "separable --in 12x12x3 --kernel 5x5 --filters 256",
    "two_passes": "separable --in 15x15x1 -k 3x3 --filters 1 --pattern ocyx->ocy,ocx",
    "attention": "attention --in 14x14x64 --kernel 7x7",
    "mobilenet_v1": "mobilenet_v1",
}


def compare(name: str, text: str, request: pytest.FixtureRequest) -> None:
    kept = HERE / f"{name}.txt"
    if request.config.getoption("--rewrite-snapshots"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 80
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["cost", *COMMANDS[name].split()]) == 0
    compare(f"cli_cost_{name}", capsys.readouterr().out, request)


@pytest.mark.parametrize("name", ["ledger", "ledger_what_if", "ledger_uncounted"])
def test_ledgers(name: str, request: pytest.FixtureRequest) -> None:
    torch = pytest.importorskip("torch")
    from separable.nn.ledger import ledger

    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.Conv2d(64, 128, 3, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    if name == "ledger_uncounted":
        model = nn.Sequential(nn.Linear(8, 8), _Sorted())
        text = ledger(model, (4, 8)).table()
    else:
        found = ledger(model, (1, 3, 32, 32))
        text = (found if name == "ledger" else found.what_if("ocyx -> oc,cyx")).table()
    compare(name, text + "\n", request)


def _Sorted() -> object:
    torch = pytest.importorskip("torch")

    class Sorted(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, x: object) -> object:
            return x.sort(1).values  # type: ignore[attr-defined]

    return Sorted()
