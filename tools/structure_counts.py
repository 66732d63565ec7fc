"""Print counts that describe the structure of the source code.

    python tools/structure_counts.py [folder of sources, default src/separable]

It counts modules, lines of code (without blank lines, comments and docstrings), short modules, long functions, functions
with many parameters, comments in compiled code, docstrings that begin with a fragment, and imports inside functions.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

SHORT_MODULE, LONG_FUNCTION, MANY_PARAMETERS = 60, 40, 7
OPERATOR_FILES = ("operators.py", "autograd.py")  # in nn/fused: functions registered with PyTorch
FRAGMENTS = (
    "of",
    "by",
    "what",
    "whether",
    "where",
    "how",
    "who",
    "which",
    "as",
    "why",
    "so",
    "to",
    "if",
    "when",
    "that",
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield every docstring of a module."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text


def begins_with_a_fragment(text: str) -> bool:
    """Return whether a docstring begins with a word of `FRAGMENTS`."""
    return text.split(None, 1)[0].strip(".,:;`").lower() in FRAGMENTS


def lines_of(source: str, tree: ast.Module) -> tuple[int, int]:
    """Return the numbers of lines with code and of lines with comments."""
    code: set[int] = set()
    comments: set[int] = set()
    skipped = {
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code), len(comments)


def parameters_of(function: Function) -> int:
    """Return the number of parameters, `self` and `cls` excepted."""
    names = [
        a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    ]
    return len([n for n in names if n not in ("self", "cls")])


def exported_by_packages(path: Path) -> set[str]:
    """Return the names that the packages of a module export; the top one exports from its own modules."""
    found: set[str] = set()
    for folder in path.parents:
        if not (folder / "__init__.py").exists():
            break
        if folder == path.parent or (folder.parent / "__init__.py").exists():
            tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
            for node in tree.body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    found.update(ast.literal_eval(node.value))
    return found


def has_signature_of_its_own(path: Path, tree: ast.Module, function: Function) -> bool:
    """Return whether a function may choose its parameters.

    Compiled kernels take numbers and addresses one by one, the signature of a command lists its options, that of
    an operator follows its schema, and public functions and classes have those of SciPy and PyTorch.
    """
    if "compiled" in path.parts or path.name.endswith("_command.py"):
        return False
    if path.parent.name == "fused" and path.name in OPERATOR_FILES and function.name[0] == "_":
        return False
    exported = exported_by_packages(path)
    return not any(
        node is function or (isinstance(node, ast.ClassDef) and function in node.body)
        for node in tree.body
        if getattr(node, "name", "") in exported
    )


def local_imports(function: Function) -> int:
    """Return the number of import statements in a function."""
    return sum(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(function))


def main(root: Path) -> None:
    """Print the counts of one package."""
    counts = dict.fromkeys(
        ("modules", "code lines", "modules under 60 lines", "functions", "functions over 40 lines",
         "functions with more than seven parameters",
         "of these, neither public, compiled, a command nor an operator", "docstrings", "docstrings that begin with a fragment",
         "imports inside functions"), 0,
    )  # fmt: skip
    compiled_code = compiled_comments = 0
    for path in sorted(root.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        code, comments = lines_of(source, tree)
        counts["modules"] += 1
        counts["code lines"] += code
        counts["modules under 60 lines"] += (
            len(source.splitlines()) < SHORT_MODULE and path.name != "__init__.py"
        )
        if "compiled" in path.parts:
            compiled_code += code
            compiled_comments += comments
        texts = list(docstrings(tree))
        counts["docstrings"] += len(texts)
        counts["docstrings that begin with a fragment"] += sum(map(begins_with_a_fragment, texts))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                counts["functions"] += 1
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                counts["functions over 40 lines"] += length > LONG_FUNCTION
                if parameters_of(node) > MANY_PARAMETERS:
                    counts["functions with more than seven parameters"] += 1
                    counts["of these, neither public, compiled, a command nor an operator"] += (
                        has_signature_of_its_own(path, tree, node)
                    )
                counts["imports inside functions"] += local_imports(node)
    for name, count in counts.items():
        print(f"{count:7,}  {name}")
    print(
        f"{100 * compiled_comments / max(1, compiled_code):7.1f}  comment lines per 100 code lines in compiled code"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "src/separable"))
