"""The rings of the library: which folder may import what, third-party packages included."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import jaxhash

PACKAGE = Path(jaxhash.__file__).parent

MATHS = ("ops", "similarity", "losses", "metrics")
LEARNING = ("objectives", "models", "training")
WORLD = ("data", "retrieval", "runs", "report", "bench", "serve", "cli")

_OF_MATHS = {"jax", "jaxtyping", "numpy", "scipy"}
_OF_LEARNING = _OF_MATHS | {"flax", "optax", "orbax"}

#: What files of a folder import beside the standard library: packages of others, and our folders.
ALLOWED = {
    "utils": ({"numpy", "rich"}, ("utils",)),
    "ops": (_OF_MATHS, ("ops",)),
    "similarity": (_OF_MATHS, ("ops", "similarity")),
    "losses": (_OF_MATHS, ("ops", "similarity", "losses")),
    "metrics": (_OF_MATHS, ("ops", "similarity", "metrics")),
    "objectives": (_OF_LEARNING, (*MATHS, "objectives", "utils")),
    "models": (_OF_LEARNING | {"safetensors", "h5py"}, (*MATHS, "models", "utils")),
    "training": (_OF_LEARNING | {"xxhash"}, (*MATHS, *LEARNING, "utils")),
}

#: What learning does not know of our own: it prints nothing.
SCREEN = "jaxhash.utils.console"


def files(folder):
    return sorted((PACKAGE / folder).rglob("*.py"))


def imports(path, *, for_types=True):
    """Everything a module imports, anywhere in it, by its dotted name; or without what type checkers see alone."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    if not for_types:
        for node in nodes:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                unseen = {inner for each in node.body for inner in ast.walk(each)}
                nodes = [node for node in nodes if node not in unseen]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the ring they reach"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name, packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def forbidden(folder, path):
    """Returns the imports of a file that its folder does not allow."""
    packages, folders = ALLOWED[folder]
    allowed = {*packages, *sys.stdlib_module_names, *(f"jaxhash.{name}" for name in folders)}
    found = [name for name in imports(path) if not is_within(name, allowed)]
    if folder in LEARNING:
        found += [name for name in imports(path) if is_within(name, {SCREEN})]
    return found


def test_every_folder_is_in_a_ring():
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there == {*ALLOWED, *WORLD}
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_what_its_ring_allows(folder):
    assert files(folder)
    found = {str(path.relative_to(PACKAGE)): forbidden(folder, path) for path in files(folder)}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("training", "import rich"),
        ("training", "from jaxhash.runs.folder import read_config"),
        ("training", "from jaxhash import report"),
        ("objectives", "def f():\n    from jaxhash.utils.console import print_line"),
        ("losses", "import flax.linen as nn"),
        ("metrics", "from jaxhash.utils.files import write_json"),
        ("utils", "import jax"),
    ],
)
def test_what_is_forbidden_is_found(tmp_path, folder, line):
    path = tmp_path / "new.py"
    path.write_text(line)
    assert len(forbidden(folder, path)) == 1


def test_only_the_command_imports_its_verbs():
    for folder in (*ALLOWED, *(name for name in WORLD if name != "cli")):
        for path in files(folder):
            assert not any(is_within(name, {"jaxhash.cli"}) for name in imports(path)), path


def test_maths_loads_nothing_heavy():
    """In a fresh interpreter; what jax itself loads counts too."""
    modules = ", ".join(f"jaxhash.{name}" for name in MATHS)
    code = f"import sys, {modules}; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert loaded >= {"jax", "jaxhash.losses", "jaxhash.metrics"}
    heavy = {"flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "matplotlib", "tyro"}
    assert not loaded & (heavy | {"rich"})


# Circles


def module_name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(package):
    """Maps each module of a package to the modules of the package that it imports when it runs, anywhere in it."""
    paths = {module_name(path, package.parent): path for path in sorted(package.rglob("*.py"))}
    return {
        name: {
            module if module in paths else module.rpartition(".")[0]  # a name in a module
            for module in imports(path, for_types=False)
        }
        & paths.keys()
        for name, path in paths.items()
    }


def find_circle(graph):
    """Returns the modules of a circle of imports, the first repeated at the end, or None."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_modules_import_each_other_in_a_circle():
    graph = import_graph(PACKAGE)
    assert len(graph) > 100 and "jaxhash.ops.meshes" in graph["jaxhash.ops.codes"]
    assert find_circle(graph) is None


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"a": "import made.b", "b": "from made.c import x", "c": "x = 1"}, None),
        ({"a": "import made.b", "b": "if TYPE_CHECKING:\n    import made.a"}, None),
        ({"a": "import made.b", "b": "from made.c import x", "c": "from made import a"}, "abc"),
        ({"a": "from made.b import x", "b": "def f():\n    from made.a import y"}, "ab"),
        ({"__init__": "from made.a import x", "a": "from made import x"}, ["made", "made.a"]),
        ({"__init__": "from made.a import x", "a": "from made.b import x", "b": "x = 1"}, None),
    ],
)
def test_a_made_up_circle_is_found(tmp_path, files, circle):
    package = tmp_path / "made"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    expected = [f"made.{name}" for name in circle] if isinstance(circle, str) else circle
    found = find_circle(import_graph(package))
    assert (found and sorted(set(found))) == expected
