"""The rings of the library: the maths knows jax and numpy, learning knows neither data nor plots."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxhash

PACKAGE = Path(jaxhash.__file__).parent
MATHS = (
    "codebooks",
    "codes",
    "selection",
    "_selection_kernel",
    "similarity",
    "losses",
    "metrics",
    "ops",
)
LEARNING = ("objectives", "models", "training")


def files(names):
    """All modules of the named parts of the package; of those that exist."""
    found = [p for name in names for p in (PACKAGE / f"{name}.py", *(PACKAGE / name).rglob("*.py"))]
    return [path for path in found if path.exists()]


def each_file(names):
    return pytest.mark.parametrize("path", files(names), ids=lambda p: str(p.relative_to(PACKAGE)))


def imports(path):
    """Everything a module imports, anywhere in it, by its dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the ring they reach"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name, packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


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
    assert not loaded & heavy


def test_every_part_of_the_maths_is_found():
    assert all(files([name]) for name in MATHS)


@each_file(MATHS)
def test_maths_imports_jax_numpy_and_itself(path):
    """The one exception: exact transport, whose assignment problem SciPy solves on the host."""
    allowed = {"jax", "numpy", "jaxtyping", *sys.stdlib_module_names}
    allowed |= {f"jaxhash.{name}" for name in MATHS}
    if path.stem == "_transport":
        allowed |= {"scipy"}
    assert [name for name in imports(path) if not is_within(name, allowed)] == []


@each_file(LEARNING)
def test_learning_imports_neither_data_nor_reports(path):
    """The one exception: the checkpoint, which keeps the state of grain's iterator."""
    outer = {"tensorflow_datasets", "grain", "matplotlib", "tyro"}
    outer |= {f"jaxhash.{name}" for name in ("data", "retrieval", "report", "bench", "cli")}
    if path.parent.name == "training" and path.stem.strip("_") == "checkpoint":
        outer -= {"grain"}
    assert [name for name in imports(path) if is_within(name, outer)] == []
