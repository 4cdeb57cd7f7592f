"""The direction of imports, and what importing the package may cost."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ocsvm_jax

PACKAGE = Path(ocsvm_jax.__file__).parent

# Lowest first: a module imports from lower lines only (and, in a folder, from its own).
LAYERS = (
    "forks",
    "arguments blocks checkpoints collapse contrast distances files provenance pytrees resampling "
    "scaling",
    "summary",
    "points",
    "kernels solver data metrics",
    "conformal decision figures kernel_sums stats workdir",
    "fit_arguments model_file page",
    "calibrated report",
    "guidance model networks",
    "fit",
    "explain export localized methods path sklearn",
    "training",
    "population",
    "scoring",
    "experiment results",
    "brain table",
    "cli",
)
SOLVER_LAYERS = (
    "solution",
    "batching checks inverse kkt",
    "free_set problem",
    "newton smo",
    "dual",
    "implicit working_set",
    "large_state",
    "large_turn",
    "large",
)
WITHOUT_JAX = {
    "collapse",
    "data",
    "figures",
    "files",
    "metrics",
    "page",
    "report",
    "resampling",
    "stats",
    "workdir",
}
HEAVY = {"tensorflow", "tensorflow_datasets", "orbax", "sklearn", "matplotlib", "pandas"}


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(source: Path) -> Iterator[str]:
    """Full names of everything imported, wherever in the file."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: imports are absolute here"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _level(layers: tuple[str, ...], name: str) -> int:
    for level, line in enumerate(layers):
        if name in line.split():
            return level
    raise AssertionError(f"{name} stands in no layer: decide where it belongs, and add it above.")


def _ids(source: Path) -> str:
    return str(source.relative_to(PACKAGE))


@pytest.mark.parametrize("source", _sources(), ids=_ids)
def test_imports_point_downwards(source):
    parts = source.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return  # the table of contents: it names what it likes
    level = _level(LAYERS, parts[0])
    for imported in _imports(source):
        root, *path = imported.split(".")
        if root != "ocsvm_jax":
            continue
        if path[0] == parts[0]:
            if parts[0] == "solver" and parts[1] != "__init__":
                inner = _level(SOLVER_LAYERS, parts[1])
                assert _level(SOLVER_LAYERS, path[1]) < inner, f"{imported} is not below {parts[1]}"
            continue
        assert _level(LAYERS, path[0]) < level, f"{imported} is not below {'.'.join(parts)}"


@pytest.mark.parametrize("source", _sources(), ids=_ids)
def test_foreign_imports(source):
    """No private JAX, no script, and no JAX at all in what only handles arrays of NumPy."""
    parts = source.relative_to(PACKAGE).with_suffix("").parts
    for imported in _imports(source):
        root = imported.split(".")[0]
        assert not imported.startswith(("jax._src", "jaxlib")), imported
        assert root not in {"train", "eval", "configs", "tests", "benchmarks"}, imported
        if parts[0] in WITHOUT_JAX:
            assert root not in {"jax", "flax", "optax", "chex"}, imported


IMPORT = """
import json, sys
import jax
before = dict(jax.config.values)
import ocsvm_jax
changed = sorted(name for name, value in jax.config.values.items() if before.get(name) != value)
loaded = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"changed": changed, "loaded": loaded}))
"""


def test_importing_the_package_is_cheap_and_changes_no_setting():
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    output = subprocess.check_output([sys.executable, "-c", IMPORT], env=environment, text=True)
    found = json.loads(output)
    assert not found["changed"]
    assert not HEAVY & set(found["loaded"])


def test_every_public_name_exists_and_is_listed_once():
    assert sorted(set(ocsvm_jax.__all__)) == sorted(ocsvm_jax.__all__)
    assert all(hasattr(ocsvm_jax, name) for name in ocsvm_jax.__all__)
