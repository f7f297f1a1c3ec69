"""No module of the platform leads back to itself by imports, those inside functions included."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2] / "platform"


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_at_all(tree):
    """Nodes, those for type checkers alone left out."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from run_at_all(node)


def imports(file, modules):
    for node in run_at_all(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from [inner] if inner in modules else [node.module]


def test_no_circle():
    files = {module_of(file): file for file in ROOT.glob("momo_platform/**/*.py")}
    assert len(files) > 100
    graph = {name: set(imports(file, files)) & set(files) for name, file in files.items()}
    assert "momo_platform.stages.storage.artifacts" in graph["momo_platform.stages.storage.open"]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" → ".join(error.args[1])) from error
