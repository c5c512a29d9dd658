"""docs/renames/*.tsv list renamed identifiers: old name, scope (a path), new name. No scope may define an old name."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TABLES = sorted((ROOT / "docs/renames").glob("*.tsv"))
# The fields of its classes are the keys of params.yaml, which keep their names.
PARAMS = ROOT / "pipeline/lpaint/runtime/params.py"


class Rename(NamedTuple):
    """A row of a table. ``Class.name`` and ``module.name`` mean one definition; ``name`` means every definition."""

    old: str
    scope: str
    new: str


class Definitions(ast.NodeVisitor):
    """What a module defines: functions, classes, arguments, assigned attributes, imports, and variables.

    Variables are those of the module and of its classes (``fields``), not those of functions. ``found`` holds the owner
    (a class or the module), the name and the line.
    """

    def __init__(self, source: str, module: str, fields: bool = True) -> None:
        self.found: list[tuple[str, str, int]] = []
        self._owner, self._variables, self._fields = module, True, fields
        self.visit(ast.parse(source))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._add(node.name, node.lineno)
        self._visit_inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._add(node.name, node.lineno)
        self._visit_inside(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._add(node.name, node.lineno)
        self._visit_inside(node, node.name, self._fields)

    def visit_arg(self, node: ast.arg) -> None:
        self._add(node.arg, node.lineno)

    def visit_alias(self, node: ast.alias) -> None:
        self._add(node.asname or node.name, node.lineno)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Store):
            self._add(node.attr, node.lineno)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store) and self._variables:
            self._add(node.id, node.lineno)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            self._visit_inside(node)
        else:
            super().generic_visit(node)

    def _add(self, name: str, line: int) -> None:
        self.found.append((self._owner, name, line))

    def _visit_inside(self, node: ast.AST, owner: str = "", variables: bool = False) -> None:
        outside = self._owner, self._variables
        self._owner, self._variables = owner or self._owner, variables
        super().generic_visit(node)
        self._owner, self._variables = outside


@cache
def definitions(path: Path) -> list[tuple[str, str, int]]:
    module = path.parent.name if path.stem == "__init__" else path.stem
    return Definitions(path.read_text(encoding="utf-8"), module, fields=path != PARAMS).found


@cache
def defined_anywhere() -> set[str]:
    """Everything that is defined, variables of functions included."""
    found = set()
    for folder in ("pipeline", "stages", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= {path.stem} | {name for owner, name, _ in definitions(path)}
            found |= {f"{owner}.{name}" for owner, name, _ in definitions(path)}
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            found |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return found


def rows(table: Path) -> list[Rename]:
    found = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        columns = line.split("\t")
        assert len(columns) == 3 and all(columns), f"{table}:{number}: three columns are needed: {line!r}"
        found.append(Rename(*columns))
    return found


def matches(old: str, source: list[tuple[str, str, int]]) -> list[int]:
    """The lines that define ``old``."""
    return [line for owner, name, line in source if old in (name, f"{owner}.{name}")]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_nothing_in_the_scope_has_the_old_name(table: Path) -> None:
    faults = []
    for old, scope, new in rows(table):
        place = ROOT / scope
        assert place.exists(), f"{table.name}: {old}: there is no {scope}"
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            faults += [
                f"{path.relative_to(ROOT)}:{line} defines {old}; its new name is {new}"
                for line in matches(old, definitions(path))
            ]
    assert not faults, "\n".join(faults)


def _ending(name: str) -> str:
    """``package.module.name`` as ``module.name``."""
    return ".".join(name.split(".")[-2:])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_new_names_exist(table: Path) -> None:
    """A name without a successor has a dash; one that became several has a list of them."""
    missing = [
        f"{table.name}: {row.old}: nothing is named {new}"
        for row in rows(table)
        for new in row.new.split(", ")
        if new != "-" and _ending(new) not in defined_anywhere()
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    "source",
    [
        "def old(): pass",
        "class old: pass",
        "async def old(): pass",
        "def f(old): pass",
        "def f(*, old=1): pass",
        "def f(**old): pass",
        "f = lambda old: 1",
        "class A:\n    def old(self): pass",
        "class A:\n    old: int",
        "class A:\n    old = 1",
        "def f(self):\n    self.old = 1",
        "def f(self):\n    self.old, x = 1, 2",
        "def f(self):\n    self.old: int = 1",
        "def f():\n    def old(): pass",
        "old = 1",
        "if True:\n    old = 1",
        "import a as old",
        "from a import b as old",
        "from a import old",
    ],
)
def test_a_definition_is_found(source: str) -> None:
    assert matches("old", Definitions(source, "module").found)


@pytest.mark.parametrize("source", ["f(old=1)", "def f():\n    old = 1", "x = [old for old in y]", "print(a.old, old)"])
def test_uses_and_variables_of_functions_are_not_definitions(source: str) -> None:
    assert not matches("old", Definitions(source, "module").found)


def test_a_row_may_mean_one_owner() -> None:
    source = Definitions("def old(): pass\nclass Old:\n    old: int\n    def f(self, old): pass", "module").found
    assert not matches("A.old", source)
    assert matches("module.old", source) == [1] and matches("Old.old", source) == [3, 4]


def test_fields_of_parameters_are_exempt() -> None:
    assert not matches("old", Definitions("class Agent:\n    old: int = 1", "params", fields=False).found)
