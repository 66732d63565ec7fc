"""Write the tables of `files.md` from the registry of formats: what becomes of each statement."""

from __future__ import annotations

from pathlib import Path

from separable.files import ANSWERS, STATEMENTS, registered_formats

__all__ = ["PAGE", "written"]

PAGE = Path(__file__).with_name("files.md")
BEGIN, END = "<!-- statements: begin -->", "<!-- statements: end -->"


def written(page: str) -> str:
    """Return the text of the page with its tables of statements made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{_tables()}\n{END}{after}"


def _tables() -> str:
    formats = [f for f in registered_formats() if f.statements]
    lines = ["| statement | " + " | ".join(f.name for f in formats) + " |"]
    lines.append("| --- |" + " --- |" * len(formats))
    group = ""
    for name, statement in STATEMENTS.items():
        if statement.group != group:
            group = statement.group
            lines.append(f"| **{group}** |" + " |" * len(formats))
        kinds = (f.statements[name].kind for f in formats)
        lines.append(
            f"| {name} | " + " | ".join("-" if k == "cannot occur" else k for k in kinds) + " |"
        )
    lines += [
        "",
        *(
            f"* **{kind}**{' (-)' if kind == 'cannot occur' else ''}: {text}"
            for kind, text in ANSWERS.items()
        ),
    ]
    lines += ["", "| statement | what the file says |", "| --- | --- |"]
    lines += [f"| {s.name} | {s.meaning} |" for s in STATEMENTS.values()]
    for format in formats:
        details = [(n, format.statements[n]) for n in STATEMENTS if format.statements[n].how]
        if details:
            lines += ["", f"### {format.name}", ""]
            lines += [f"* **{name}** is {answer.kind}: {answer.how}" for name, answer in details]
    return "\n".join(lines)


def _word(kind: str) -> str:
    return "**-** (cannot occur)" if kind == "cannot occur" else f"**{kind}**"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
