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

# The chapters and, in each, its files, lowest first: a module imports from lower lines only. Two
# names of one line do not import one another, so that there can be no circle.
LAYERS = {
    "": (
        "devices extras files forks networks suggestions",
        "arrays block_sizes data",
        "blocks conformal kernels solver",
        "decision dual_of_points fit_arguments kernel_sums model_file",
        "calibrated guidance localized",
        "methods model",
        "explain export fit_large",
        "fit",
        "path sklearn training",
        "evaluation",
        "detectors reports",
        "experiments",
    ),
    "arrays": (
        "arguments dimensions distances parts pytrees",
        "packing scaling summary",
        "casts",
        "points",
    ),
    "conformal": ("values", "p_values selection threshold"),
    "data": (
        "base corruptions nifti phantom",
        "digits mnist_c_files own_images protocol",
        "cohort_files mnist_c_tfds",
        "brain mnist_c",
    ),
    "data.phantom": (
        "cohorts files warp",
        "template",
        "anatomy description",
        "lesions scanner shapes tumours",
        "subject",
        "generate",
        "__main__",
    ),
    "detectors": (
        "design inputs ranks",
        "fitted parameters training",
        "detector_file",
        "base",
    ),
    "evaluation": (
        "adjusted collapse contrast density final latents resampling",
        "domains metrics scores",
        "comparison pca rank_tests",
        "over_seeds",
    ),
    "experiments": ("fields", "method_fields", "config", "workdir", "brain cli images table"),
    "experiments.brain": (
        "captions measures methods pictures study training",
        "identity mappers plan records",
        "recipes",
        "check maps rows",
        "facts judge nifti_maps",
        "gallery ranks tables",
        "report",
        "experiment",
    ),
    "experiments.images": ("report results", "trained", "run"),
    "experiments.table": (
        "baselines grid pictures record rows",
        "columns comparisons latent_maps store visits",
        "alternatives by_domain captions contents judge plan",
        "report search",
        "progress",
        "runs",
        "kept_scores",
        "testing",
        "pairs_report results",
        "experiment",
        "pairs",
    ),
    "methods": (
        "arguments base noise turning",
        "ae edits kernel_names radius random_convolutions ring sae vae",
        "hypersphere ogae",
        "separation",
        "deep_svdd dspsvdd dvaesvdd edited_ogae soft_deep_svdd turned_ogae",
    ),
    "networks": (
        "forms pair",
        "convolution convolution_valid",
        "autoencoder",
        "mlp patch patched",
        "fitting",
    ),
    "path": (
        "batches criteria progress rows",
        "defaults grid unseen",
        "choice",
        "ensemble",
    ),
    "reports": ("figures numbers provenance", "page", "section"),
    "solver.fused": (
        "calls choice elimination tile",
        "gram system",
        "matrix pseudo_inverse",
        "programs",
        "launches",
    ),
    "sklearn": (
        "accuracy calibration conversion host_kernels parameters",
        "inputs scoring",
        "fitted_kernel solving",
        "base",
        "one_class svdd",
    ),
    "solver": (
        "batching checks conditioning inverse kkt solution",
        "free_set large_state",
        "matrices",
        "problem",
        "smo",
        "newton",
        "rounds",
        "dual",
        "fused working_set",
        "implicit",
        "large_step pairwise",
        "large",
    ),
    "training": ("checkpoints epoch history", "loop", "population"),
}
# Chapters and modules that only handle arrays of NumPy.
WITHOUT_JAX = (
    "data",
    "evaluation.adjusted",
    "evaluation.collapse",
    "evaluation.comparison",
    "evaluation.contrast",
    "evaluation.density",
    "evaluation.latents",
    "evaluation.metrics",
    "evaluation.over_seeds",
    "evaluation.rank_tests",
    "evaluation.resampling",
    "experiments.images.report",
    "files",
    "reports.figures",
    "reports.page",
    "reports.section",
)
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


def _parts(source: Path) -> tuple[str, ...]:
    """The module below the package: ("solver", "kkt"); of a folder's table of contents, it."""
    parts = source.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _level(folder: str, name: str) -> int:
    for level, line in enumerate(LAYERS[folder]):
        if name in line.split():
            return level
    raise AssertionError(f"{name} stands in no layer of {folder!r}: decide where it belongs.")


def _ids(source: Path) -> str:
    return str(source.relative_to(PACKAGE))


@pytest.mark.parametrize("source", _sources(), ids=_ids)
def test_imports_point_downwards(source):
    own = _parts(source)
    for imported in _imports(source):
        root, *path = imported.split(".")
        if root != "ocsvm_jax":
            continue
        same = next(
            (i for i, (a, b) in enumerate(zip(own, path, strict=False)) if a != b),
            min(len(own), len(path)),
        )
        if same == len(own):
            continue  # a table of contents names what lies below it
        folder = ".".join(own[:same])
        above, below = _level(folder, own[same]), _level(folder, path[same])
        assert below < above, f"{imported} is not below {'.'.join(own)}"


def test_every_module_stands_in_one_layer():
    listed = {
        f"{folder}.{name}".lstrip(".")
        for folder, lines in LAYERS.items()
        for line in lines
        for name in line.split()
    }
    there = {".".join(_parts(source)) for source in _sources()} - {""}
    assert listed == there


@pytest.mark.parametrize("source", _sources(), ids=_ids)
def test_foreign_imports(source):
    """No private JAX, no script, and no JAX at all in what only handles arrays of NumPy."""
    module = ".".join(_parts(source))
    plain = any(f"{module}.".startswith(f"{name}.") for name in WITHOUT_JAX)
    for imported in _imports(source):
        root = imported.split(".")[0]
        assert not imported.startswith(("jax._src", "jaxlib")), imported
        assert root not in {"train", "eval", "configs", "tests", "benchmarks"}, imported
        assert not (plain and root in {"jax", "flax", "optax", "chex"}), imported


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
