"""The grammar: what each pattern of DESIGN's table means, and where errors point."""

from __future__ import annotations

import pytest

from separable.errors import ArgumentTypeError, PatternError
from separable.pattern import Pattern, parse

# pattern, axes, batch letters, bonds, letters of each operand
TABLE = [
    ("yx -> y,x", ("y", "x"), "", "R", ("Ry", "Rx")),
    ("zyx -> z,y,x", ("z", "y", "x"), "", "R", ("Rz", "Ry", "Rx")),
    ("lyx -> l,yx", ("l", "y", "x"), "", "R", ("Rl", "Ryx")),
    ("ocx -> oc,cx", ("o", "c", "x"), "c", "R", ("Roc", "Rcx")),
    ("ocyx -> oc,cyx", ("o", "c", "y", "x"), "c", "R", ("Roc", "Rcyx")),
    ("oczyx -> oc,czyx", ("o", "c", "z", "y", "x"), "c", "R", ("Roc", "Rczyx")),
    ("ocyx -> oc,oyx", ("o", "c", "y", "x"), "o", "R", ("Roc", "Royx")),
    ("ocyx -> ox,cy", ("o", "c", "y", "x"), "", "R", ("Rox", "Rcy")),
    ("ocyx -> oR,RyxS,Sc", ("o", "c", "y", "x"), "", "RS", ("oR", "RyxS", "Sc")),
    ("ocyx -> oR,RyS,SxT,Tc", ("o", "c", "y", "x"), "", "RST", ("oR", "RyS", "SxT", "Tc")),
    ("(Yy)(Xx) -> YX,yx", ("Yy", "Xx"), "", "R", ("RYX", "Ryx")),
]


@pytest.mark.parametrize(("text", "axes", "batch", "bonds", "operands"), TABLE)
def test_every_pattern_of_the_table(text, axes, batch, bonds, operands):
    pattern = parse(text)
    assert pattern.axes == axes
    assert pattern.ndim == len(axes)
    assert pattern.batch == batch
    assert pattern.bonds == bonds
    assert pattern.operands == operands
    assert pattern.einsum == ",".join(operands) + "->" + "".join(axes)
    assert str(pattern) == text
    assert parse(str(pattern)) == pattern
    assert parse(text.replace(" ", "")) == pattern


def test_short_form_reads_axes_in_order_of_appearance():
    assert str(parse("y,x")) == "yx -> y,x"
    assert str(parse("z, yx")) == "zyx -> z,yx"


def test_own_letters_are_neither_batch_nor_bond():
    pattern = parse("ocyx -> oc,cyx")
    assert [pattern.own(k) for k in range(2)] == ["o", "yx"]
    tucker = parse("ocyx -> oR,RyxS,Sc")
    assert [tucker.own(k) for k in range(3)] == ["o", "yx", "c"]


def test_a_written_bond_that_joins_all_factors_is_one_bond():
    assert parse("yx -> yR,Rx").has_one_bond
    assert parse("zyx -> zB,By,xB").has_one_bond
    assert not parse("ocyx -> oR,RyxS,Sc").has_one_bond
    assert not parse("zyx -> zR,RyS,Sx").has_one_bond


def test_the_bond_that_is_not_written_avoids_the_letters_of_groups():
    assert parse("(Rr)x -> Rx,r").bonds == "S"


def test_a_factor_may_hold_bonds_only():
    assert parse("yx -> yR,RS,Sx").own(1) == ""


def test_patterns_are_values():
    assert parse("y,x") == parse("yx->y,x") == Pattern(("y", "x"), ("y", "x"))
    assert len({parse("y,x"), parse("yx -> y,x")}) == 1


NO_ARROW = (
    "the pattern has no arrow `->`: write the kernel's axes, an arrow and the factors, for example "
    "`yx -> y,x`; or the factors alone, `y,x`"
)
MESSAGES = [
    (
        "ocyx -> ox,cky",
        "axis `k` is not in the kernel and appears in only one factor\n"
        "  ocyx -> ox,cky\n"
        "              ^\n"
        'Did you mean "ocyx -> ox,cy"?',
    ),
    (
        "yx -> yR,x",
        "axis `R` is not in the kernel and appears in only one factor\n"
        "  yx -> yR,x\n"
        "         ^\n"
        'Did you mean "yx -> y,x"?',
    ),
    (
        "yx -> y",
        "a pattern needs two factors or more, separated by commas\n  yx -> y\n       ^",
    ),
    ("yx -> y,,x", "a factor is empty\n  yx -> y,,x\n          ^"),
    ("yx -> y,x,", "a factor is empty\n  yx -> y,x,\n           ^"),
    ("", f"{NO_ARROW}\n  \n  ^"),
    *(
        (text, f'{NO_ARROW}\n  {text}\n  {" " * at}^\nDid you mean "{meant}"?')
        for text, at, meant in (
            ("yx", 0, "yx -> y,x"),
            ("yx y,x", 0, "yx -> y,x"),
            ("yx = y,x", 3, "yx -> y,x"),
            ("yx => y,x", 3, "yx -> y,x"),
            ("yx \u2192 y,x", 3, "yx -> y,x"),
            ("ocyx oc,cyx", 0, "ocyx -> oc,cyx"),
            ("(Yy)(Xx) YX,yx", 0, "(Yy)(Xx) -> YX,yx"),
        )
    ),
    ("yy", f"{NO_ARROW}\n  yy\n  ^"),
    ("(Yy)(Xx)", f"{NO_ARROW}\n  (Yy)(Xx)\n  ^"),
    (
        "y,x -> yx",
        "`,` is not allowed here: expected a letter or a group\n  y,x -> yx\n   ^\n"
        'Did you mean "yx -> y,x"?',
    ),
    (
        "yx,y,x",
        "axis `y` appears twice: write the kernel's axes before an arrow\n  yx,y,x\n     ^\n"
        'Did you mean "yx -> y,x"?',
    ),
    (
        "-> y,x",
        'the kernel has no axes\n  -> y,x\n  ^\nDid you mean "yx -> y,x"?',
    ),
    ("yx -> y -> x", "a pattern has one arrow\n  yx -> y -> x\n          ^"),
    ("yxy -> y,x", "axis `y` appears twice in the kernel\n  yxy -> y,x\n    ^"),
    ("yx -> yy,x", "axis `y` appears twice in one factor\n  yx -> yy,x\n         ^"),
    (
        "y1 -> y,x",
        "`1` is not allowed here: expected a letter or a group\n  y1 -> y,x\n   ^",
    ),
    (
        "yx -> y;x",
        "`;` is not allowed here: expected a letter or a comma\n  yx -> y;x\n         ^",
    ),
    ("(Yyx -> Y,yx", "this group is not closed\n  (Yyx -> Y,yx\n  ^"),
    ("zyx -> y,x", "axis `z` of the kernel is not in any factor\n  zyx -> y,x\n  ^"),
    (
        "zyx -> zy,zx,yx",
        "axis `z` appears in 2 of 3 factors: a batch letter appears in all of them, an axis in one\n"
        "  zyx -> zy,zx,yx\n"
        "            ^",
    ),
    (
        "yx -> yr,rx",
        "`r` is not in the kernel: a bond is written as a capital\n  yx -> yr,rx\n           ^",
    ),
    ("cx -> c,cx", "factor `c` has no axis of its own\n  cx -> c,cx\n          ^"),
    (
        "yx -> yRS,RSx",
        "bond `S` closes a ring: the bonds must form a tree\n  yx -> yRS,RSx\n             ^",
    ),
    (
        "tzyx -> tR,zR,yRS,Sx",
        "bond `R` joins 3 factors: expected two, or one bond for all\n"
        "  tzyx -> tR,zR,yRS,Sx\n"
        "                 ^",
    ),
    (
        "tzyx -> tR,zR,yS,Sx",
        "factor `yS` shares no bond with the first one\n  tzyx -> tR,zR,yS,Sx\n                   ^",
    ),
    (
        "oc,cx",
        "axis `c` appears twice: write the kernel's axes before an arrow\n"
        "  oc,cx\n"
        "     ^\n"
        'Did you mean "ocx -> oc,cx"?',
    ),
]


@pytest.mark.parametrize(("text", "message"), MESSAGES)
def test_messages_point_at_the_letter_at_fault(text, message):
    with pytest.raises(PatternError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_messages_show_the_kernel_shape_where_it_is_known():
    with pytest.raises(PatternError) as caught:
        parse("ocyx -> ox,cky", shape=(64, 32, 3, 3))
    assert str(caught.value) == (
        "axis `k` is not in the kernel and appears in only one factor\n"
        "  ocyx -> ox,cky\n"
        "              ^\n"
        'kernel shape (64, 32, 3, 3). Did you mean "ocyx -> ox,cy"?'
    )


def test_what_was_meant_is_itself_a_pattern():
    for text, message in MESSAGES:
        if "Did you mean" in message:
            meant = message.split('"')[1]
            assert str(parse(meant)) == meant, text


@pytest.mark.parametrize("given", [None, 3, ("y", "x"), b"y,x"])
def test_a_pattern_must_be_text(given):
    with pytest.raises(ArgumentTypeError) as caught:
        parse(given)
    assert str(caught.value) == f"`pattern` must be a string such as 'yx -> y,x'; got {given!r}"


def test_pattern_errors_are_value_errors():
    with pytest.raises(ValueError, match="a factor is empty"):
        parse("y,")


def test_sizes_of_letters_and_groups():
    assert parse("yx -> y,x").sizes((3, 5)) == {"y": 3, "x": 5}
    groups = parse("(Yy)(Xx) -> YX,yx")
    assert groups.sizes((6, 8), {"y": 3, "x": 2}) == {"Y": 2, "y": 3, "X": 4, "x": 2}
    assert groups.sizes((6, 8), {"Y": 2, "y": 3, "X": 8}) == {"Y": 2, "y": 3, "X": 8, "x": 1}
    three = parse("(ABa)x -> Ax,Ba")
    assert three.sizes((12, 5), {"A": 2, "a": 3}) == {"A": 2, "B": 2, "a": 3, "x": 5}
    assert parse("yx -> y,x").sizes((3, 5), {"y": 3}) == {"y": 3, "x": 5}


SIZES = [
    (
        "yx -> y,x",
        (3, 3, 3),
        None,
        "pattern `yx -> y,x` needs a kernel of 2 axes; got kernel shape (3, 3, 3), 3 axes",
    ),
    (
        "yx -> y,x",
        (3, 3),
        {"q": 2, "k": 1},
        "`sizes` names ['k', 'q'], which are in no axis of `yx -> y,x`",
    ),
    (
        "(Yy)(Xx) -> YX,yx",
        (6, 6),
        {"y": 3},
        "group `(Xx)` of `(Yy)(Xx) -> YX,yx` has an axis of 6 to share among its letters; "
        "give all but one of their sizes, for instance sizes={'x': 2}",
    ),
    (
        "(Yy)(Xx) -> YX,yx",
        (6, 6),
        {"y": 4, "x": 3},
        "group `(Yy)` of `(Yy)(Xx) -> YX,yx`: the sizes {'y': 4} do not divide its axis of 6; "
        "kernel shape (6, 6)",
    ),
    (
        "(Yy)(Xx) -> YX,yx",
        (6, 6),
        {"Y": 2, "y": 2, "x": 3},
        "group `(Yy)` of `(Yy)(Xx) -> YX,yx`: the sizes {'Y': 2, 'y': 2} do not divide its "
        "axis of 6; kernel shape (6, 6)",
    ),
    (
        "(Yy)x -> Yx,y",
        (6, 6),
        {"y": 0},
        "group `(Yy)` of `(Yy)x -> Yx,y`: the sizes {'y': 0} do not divide its axis of 6; "
        "kernel shape (6, 6)",
    ),
]


@pytest.mark.parametrize(("text", "shape", "given", "message"), SIZES)
def test_sizes_that_do_not_fit(text, shape, given, message):
    with pytest.raises(PatternError) as caught:
        parse(text).sizes(shape, given)
    assert str(caught.value) == message
