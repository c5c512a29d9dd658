"""Hook of MkDocs for the API pages: ``::: PACKAGE`` becomes one entry for the package and for each of its modules.

mkdocstrings alone would document a name twice: where it is defined, and where a package imports it from its modules.
"""

import ast
import re
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parents[1] / "pipeline"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    return re.sub(r"^::: ([\w.]+)$", lambda match: "\n\n".join(_entries(match[1])), markdown, flags=re.MULTILINE)


def _entries(name: str) -> list[str]:
    path = LIBRARY / name.replace(".", "/")
    if not path.is_dir():
        return [f"::: {name}"]
    files = sorted(path.rglob("*.py"), key=lambda file: file.parent / file.stem.replace("__init__", ""))
    return [_entry(file) for file in files if ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))]


def _entry(file: Path) -> str:
    name = ".".join(file.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]
    members = f"[{', '.join(own)}]" if own else "false"
    return f"::: {name}\n    options:\n      members: {members}" if file.stem == "__init__" else f"::: {name}"
