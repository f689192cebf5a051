"""The vocabulary rests on nothing but the standard library and msgspec."""

import ast
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "core"


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.stem)
def test_core_imports_the_standard_library_and_msgspec_only(path: Path) -> None:
    assert imported(path) - sys.stdlib_module_names - {"core", "msgspec"} == set()
