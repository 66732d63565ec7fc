"""The statements that files make about their numbers, and the answers of a format to them.

A statement is something that a file of some format can say: that its samples are indices into a
palette, that -9999 means "no data", that pixels are 30 m apart. Every format answers every statement
(`Format.statements`): it is kept, converted, obeyed or refused, or it cannot occur in such a file. No
statement is ignored. The page `docs/files.md` and the tests are made from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from separable.errors import ArgumentError

__all__ = [
    "ANSWERS",
    "STATEMENTS",
    "Answer",
    "Statement",
    "answers_of",
    "check_answers",
    "unanswered",
]

ANSWERS = {
    "kept": "The result says the same, and it is true of the result.",
    "converted": "The numbers are converted to a form that needs no such statement; a note says so.",
    "obeyed": "The filter takes it into account.",
    "refused": "The file is rejected with a message that says what to do.",
    "cannot occur": "A file of this format cannot say it, or no reader would find it.",
}


@dataclass(frozen=True)
class Statement:
    """Something that a file can say about its numbers.

    Attributes
    ----------
    name : str
        Key in `Format.statements`.
    group : str
        Heading under which the documentation lists it.
    meaning : str
        What the file says, for users.

    Examples
    --------
    >>> STATEMENTS["alpha"].group
    'Colour'
    """

    name: str
    group: str
    meaning: str


@dataclass(frozen=True)
class Answer:
    """The treatment of a statement by a format.

    Attributes
    ----------
    kind : str
        A key of `ANSWERS`.
    how : str
        Details for users.

    Examples
    --------
    >>> str(Answer("kept", "as tag 33550")), str(Answer("cannot occur"))
    ('kept: as tag 33550', 'cannot occur')
    """

    kind: str
    how: str = ""

    def __post_init__(self) -> None:
        """Refuse an unknown kind, such as "ignored"."""
        if self.kind not in ANSWERS:
            raise ArgumentError(
                f"`kind` of an answer must be one of {', '.join(ANSWERS)}; got {self.kind!r}"
            )

    def __str__(self) -> str:
        return f"{self.kind}: {self.how}" if self.how else self.kind


def _group(group: str, meanings: Mapping[str, str]) -> dict[str, Statement]:
    return {name: Statement(name, group, meaning) for name, meaning in meanings.items()}


STATEMENTS: dict[str, Statement] = {
    **_group("Colour", {
        "colour samples": "Each pixel has three samples: red, green, blue.",
        "several bands": "Each pixel has any number of samples that are not colours.",
        "planar colour": "Each colour or band is stored as a plane of its own.",
        "palette": "Samples are indices into a table of colours.",
        "white is zero": "The smallest sample is white (MinIsWhite).",
        "CMYK": "Samples are amounts of four inks.",
        "CIELab": "Samples are lightness and two colour coordinates, of which two have a sign.",
        "YCbCr": "Samples are luminance and two colour differences.",
        "unknown colour space": "The code of the colour space has no meaning known here.",
        "colour profile": "An ICC profile says what the colours look like.",
        "alpha": "The last sample of each pixel is its opacity; colours are stored unchanged.",
        "premultiplied alpha": "As alpha, but colours are stored multiplied by it.",
        "transparent colour": "One colour, or some entries of the palette, are transparent.",
        "rotation": "The picture is to be rotated or mirrored before it is shown.",
    }),
    **_group("Values", {
        "missing value": "One number (nodata, fill value) means that there is no sample.",
        "missing value outside the type": "The number declared as missing is none of the data type.",
        "valid range": "Numbers outside a range mean that there is no sample.",
        "scale and offset": "The meant values are `scale * stored + offset`.",
        "sample depth": "Fewer bits than the data type has are used, such as 1 or 12.",
    }),
    **_group("Geometry", {
        "spacing": "Samples are so far apart, in a unit of length.",
        "spacing in several units": "The spacing has another unit along each axis.",
        "contradicting spacing": "Two statements about the spacing contradict each other, or it is 0.",
        "position and direction": "A matrix or an origin says where samples lie in the world.",
        "georeference": "A map projection and the position of pixels on the earth.",
        "print resolution": "Pixels per inch, for printing.",
        "axis names": "Axes have names, such as time, band or latitude.",
        "coordinates": "Each index of an axis has a coordinate, such as a wavelength or a date.",
    }),
    **_group("Contents", {
        "several images": "The file holds several images, frames, positions or arrays.",
        "resolution levels": "The same image is stored at several resolutions.",
        "groups": "Arrays are named and lie in groups, beside other arrays.",
        "other metadata": "Further attributes, such as the names of channels or a description.",
        "incomplete series": "Slices of a series are missing, doubled, or of another size.",
        "tilted slices": "Slices are shifted against each other (gantry tilt).",
    }),
}  # fmt: skip


def check_answers(name: str, answers: Mapping[str, Answer]) -> None:
    """Refuse answers of a format to statements that are not in the table.

    Raises
    ------
    ArgumentError
    """
    unknown = sorted(set(answers) - set(STATEMENTS))
    if unknown:
        raise ArgumentError(
            f"`statements` of the format {name} must be keys of files.STATEMENTS; got {unknown[0]!r}"
        )


def unanswered(answers: Mapping[str, Answer]) -> tuple[str, ...]:
    """Return the statements of the table that a format does not answer.

    Examples
    --------
    >>> unanswered({name: Answer("kept") for name in STATEMENTS if name != "alpha"})
    ('alpha',)
    """
    return tuple(name for name in STATEMENTS if name not in answers)


def answers_of(
    *,
    kept: Mapping[str, str] | None = None,
    converted: Mapping[str, str] | None = None,
    obeyed: Mapping[str, str] | None = None,
    refused: Mapping[str, str] | None = None,
    cannot_occur: str = "",
) -> dict[str, Answer]:
    """Return the answers of a format, from one table per kind.

    Parameters
    ----------
    kept, converted, obeyed, refused : dict of str, optional
        Statements with details for users.
    cannot_occur : str
        Statements that cannot occur, separated by commas.

    Examples
    --------
    >>> answers_of(kept={"spacing": "as pixdim"}, cannot_occur="palette, CMYK")["CMYK"].kind
    'cannot occur'
    """
    found: dict[str, Answer] = {}
    tables = {"kept": kept, "converted": converted, "obeyed": obeyed, "refused": refused}
    for kind, table in tables.items():
        found |= {name: Answer(kind, how) for name, how in (table or {}).items()}
    names = (part.strip() for part in cannot_occur.split(","))
    return found | {name: Answer("cannot occur") for name in names if name}
