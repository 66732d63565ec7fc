"""No two modules of the package import each other, directly or through others.

The graph is read from the source, so that imports inside functions count like those at the top of a module.
Two kinds of imports do not count:

* those under ``if TYPE_CHECKING:``, which never run;
* those of a *convenience method*: a method whose body, after its docstring, is exactly one
  ``from module import function`` and ``return function(self, ...)``, where the further arguments are plain
  names. ``report.to_html()`` is such a method: the formatting stands in a module above, as a function of the
  value.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import separable

ROOT = Path(separable.__file__).parent
KNOWN_CIRCLES: set[frozenset[str]] = set()
"""Circles that still exist; this set may only shrink. `PARTS_OF_CIRCLES` names larger ones by a prefix."""
PARTS_OF_CIRCLES = ("separable.engine.", "separable.files.")


def modules() -> dict[str, Path]:
    """Return the file of every module."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ("separable", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_convenience(function: ast.AST) -> bool:
    """Return True for a method that only imports one function and returns what it gives for `self`."""
    if not isinstance(function, ast.FunctionDef):
        return False
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if len(body) != 2:
        return False
    imported, returned = body
    if not (isinstance(imported, ast.ImportFrom) and len(imported.names) == 1):
        return False
    if not (isinstance(returned, ast.Return) and isinstance(returned.value, ast.Call)):
        return False
    called, arguments = returned.value.func, returned.value.args
    values = [*arguments, *(k.value for k in returned.value.keywords)]
    names = [v.id for v in values if isinstance(v, ast.Name)]
    return (
        isinstance(called, ast.Name)
        and called.id == (imported.names[0].asname or imported.names[0].name)
        and len(names) == len(values)
        and names[:1] == ["self"]
    )


def is_type_checking(node: ast.AST) -> bool:
    """Return True for ``if TYPE_CHECKING:``, which has no other branch."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def import_statements(
    node: ast.AST, in_class: bool = False
) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports below a node that count."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not is_type_checking(child) and not (in_class and is_convenience(child)):
            yield from import_statements(child, isinstance(child, ast.ClassDef))


def imported_modules(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a module imports."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for statement in import_statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            targets = [alias.name for alias in statement.names]
        else:
            base = statement.module or ""
            if statement.level:
                above = package[: len(package) - statement.level + 1]
                base = ".".join([*above, base] if base else above)
            targets = [f"{base}.{alias.name}" for alias in statement.names]
        for target in targets:
            while target and target not in known:
                target = target.rpartition(".")[0]
            found.add(target)
    return found - {"", name}


def circles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """Return the strongly connected components of several modules, by Tarjan's algorithm (1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            at = stack.index(module)
            component = frozenset(stack[at:])
            del stack[at:]
            if len(component) > 1:
                found.append(component)

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return found


def test_no_modules_import_each_other() -> None:
    known = modules()
    graph = {name: imported_modules(name, path, known) for name, path in known.items()}
    found = set(circles(graph))
    new = {c for c in found - KNOWN_CIRCLES if not all(m.startswith(PARTS_OF_CIRCLES) for m in c)}
    assert not new, "\n".join(" <-> ".join(sorted(c)) for c in new)
    assert found >= KNOWN_CIRCLES, "these circles are gone: take them off the list"
    gone = [p for p in PARTS_OF_CIRCLES if not any(m.startswith(p) for c in found for m in c)]
    assert not gone, "these circles are gone: take them off the list"


def test_the_search_finds_circles() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a", "d"}}
    assert circles(graph) == [frozenset({"b", "c"})]


def test_what_counts_as_an_import() -> None:
    source = """
import one
class Value:
    def to_html(self, width):
        '''Return a page.'''
        from two import page
        return page(self, width)
    def table(self):
        from three import text
        return text(self) + "!"
def function():
    from four import something
if TYPE_CHECKING:
    from five import Value
"""
    found = [ast.unparse(s) for s in import_statements(ast.parse(source))]
    assert found == ["import one", "from three import text", "from four import something"]
