"""What an installation brings, the names that `import ocsvm_jax` offers, the project's files."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import ocsvm_jax
from ocsvm_jax import extras

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SUBMODULES = [
    "conformal",
    "detectors",
    "explain",
    "export",
    "localized",
    "methods",
    "networks",
    "path",
    "sklearn",
]
# Of what extras bring, Flax depends on these itself.
BROUGHT_BY_FLAX = {"absl", "orbax"}


def _names(requirements):
    """Distributions that requirements name, those of other extras of this project included."""
    found = set()
    for requirement in requirements:
        name, listed = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name != "ocsvm_jax":
            found.add(name.lower())
            continue
        for extra in listed.split(","):
            found |= _names(PROJECT["optional-dependencies"][extra])
    return found


def _run(code, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_dir_shows_the_public_names_only():
    assert dir(ocsvm_jax) == sorted([*ocsvm_jax.__all__, *SUBMODULES, "__version__"])


def test_submodules_need_no_import_of_their_own():
    code = f"""
import sys
import ocsvm_jax
names = {SUBMODULES}
loaded = [name for name in names if f"ocsvm_jax.{{name}}" in sys.modules]
assert loaded == ["conformal"], loaded  # a model calibrates itself by it
assert ocsvm_jax.sklearn.OneClassSVM().nu == 0.5
for name in names:
    assert getattr(ocsvm_jax, name) is sys.modules[f"ocsvm_jax.{{name}}"]
"""
    done = _run(code)
    assert done.returncode == 0, done.stderr


def test_type_checkers_see_the_same_submodules():
    tree = ast.parse(Path(ocsvm_jax.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    assert [alias.asname for node in block.body for alias in node.names] == SUBMODULES


def test_an_unknown_name_is_answered_with_those_near():
    with pytest.raises(AttributeError, match=r"no attribute 'ocsvm_solv'.*'ocsvm_solve'"):
        ocsvm_jax.ocsvm_solv  # noqa: B018
    assert not hasattr(ocsvm_jax, "__wrapped__")


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", ocsvm_jax.__version__)
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "ocsvm_jax.__version__"
    }


def test_annotations_are_announced():
    assert (Path(ocsvm_jax.__file__).parent / "py.typed").exists()
    assert "py.typed" in PYPROJECT["tool"]["setuptools"]["package-data"]["ocsvm_jax"]


def test_every_extra_that_the_package_imports_is_known_to_the_messages():
    listed = _names(["ocsvm_jax[train,sklearn,export,mri]"])
    assert {name.lower() for name in extras.DISTRIBUTIONS.values()} == listed
    assert not listed & _names(PROJECT["dependencies"])


def test_everything_that_is_imported_is_declared():
    declared = _names(PROJECT["dependencies"]) | set(extras.DISTRIBUTIONS)
    for source in Path(ocsvm_jax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                roots = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                roots = {(node.module or "").split(".")[0]}
            else:
                continue
            assert roots <= declared | sys.stdlib_module_names | {"ocsvm_jax"}, source


# As if nothing but the core were installed; prints what each statement is refused with.
WITHOUT_EXTRAS = f"""
import json, sys
for name in {sorted(set(extras.DISTRIBUTIONS) - BROUGHT_BY_FLAX)}:
    sys.modules[name] = None
import ocsvm_jax
for name in {[name for name in SUBMODULES if name not in ("detectors", "sklearn")]}:
    getattr(ocsvm_jax, name)
import ocsvm_jax.training.loop, ocsvm_jax.training.population, ocsvm_jax.evaluation.scores
messages = []
for statement in json.loads(sys.argv[1]):
    try:
        exec(statement)
        messages.append("no error")
    except ModuleNotFoundError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""
REFUSED = {
    "ocsvm_jax.sklearn": ("ocsvm_jax.sklearn", "scikit-learn", "sklearn"),
    "from ocsvm_jax.sklearn import SVDD": ("ocsvm_jax.sklearn", "scikit-learn", "sklearn"),
    "ocsvm_jax.detectors.OgAE": ("ocsvm_jax.detectors", "scikit-learn", "sklearn"),
    "ocsvm_jax.export.save_exported(None, 'x')": (
        "ocsvm_jax.export.save_exported",
        "flatbuffers",
        "export",
    ),
    "from ocsvm_jax.evaluation import metrics": (
        "ocsvm_jax.evaluation.metrics",
        "scikit-learn",
        "train",
    ),
    "from ocsvm_jax.experiments import config": (
        "ocsvm_jax.experiments",
        "ml_collections",
        "train",
    ),
    "from ocsvm_jax import data; data.load('digits')": (
        "ocsvm_jax.data.corruptions",
        "scikit-image",
        "train",
    ),
    "from ocsvm_jax.data import nifti; nifti.read_header('x')": (
        "reading and writing NIfTI files",
        "nibabel",
        "mri",
    ),
}


def test_a_missing_extra_is_answered_with_the_line_to_type():
    done = _run(WITHOUT_EXTRAS, json.dumps(list(REFUSED)))
    assert done.returncode == 0, done.stderr
    for message, (user, package, extra) in zip(
        json.loads(done.stdout), REFUSED.values(), strict=True
    ):
        line = f"pip install 'ocsvm_jax[{extra}]'"
        assert message == f"{user} needs {package}, which is not installed: {line}"


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "ml_collections"])
def test_a_script_says_so_in_one_line(script, module):
    code = (
        f"import runpy, sys; sys.modules['{module}'] = None; sys.argv = ['{script}']\n"
        f"runpy.run_path('{script}', run_name='__main__')"
    )
    done = _run(code)
    needed = f"error: {script} needs {extras.DISTRIBUTIONS[module]}, which is not installed: "
    assert done.stderr == f"{needed}pip install 'ocsvm_jax[train]'\n"
    assert done.returncode == 2


def test_other_missing_modules_are_not_taken_for_extras():
    with (
        pytest.raises(ModuleNotFoundError, match="No module named") as caught,
        extras.needed_by("this", "train"),
    ):
        import ocsvm_jax.nothing  # noqa: F401
    assert type(caught.value) is ModuleNotFoundError


def test_hooks_have_the_pinned_versions():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    pins = {
        name.split("[")[0]: version
        for name, _, version in (
            requirement.partition("==") for requirement in PROJECT["optional-dependencies"]["test"]
        )
        if version
    }
    assert set(pins) == {"ruff", "pyright", "codespell"}
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    assert set(hooks) >= {"ruff-check", "ruff-format", "pyright", "codespell", "check-toml"}
    for hook in hooks.values():
        for requirement in hook.get("additional_dependencies", ()):
            name, _, version = requirement.partition("==")
            assert version and pins.get(name, version) == version, requirement


def _stages():
    text = (ROOT / ".ci" / "run").read_text()
    return re.search(r"^        ([a-z |]+)\) ;;$", text, re.MULTILINE)[1].split(" | ")


def test_the_workflow_calls_the_stages_that_there_are():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["stage"]["strategy"]["matrix"]
    called = {*matrix["stage"], *(entry["stage"] for entry in matrix["include"])}
    assert called == set(_stages())
    assert ".ci/run ${{ matrix.stage }}" in [
        step.get("run") for step in workflow["jobs"]["stage"]["steps"]
    ]


def test_an_unknown_stage_or_area_is_refused():
    for command, word in ((".ci/run", "stage"), (".ci/fast", "area")):
        done = subprocess.run([ROOT / command, "nothing"], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith(f"no {word} nothing: ")


def test_every_test_file_is_in_one_area():
    lines = (ROOT / ".ci" / "areas.txt").read_text().splitlines()
    areas = dict(line.split(": ") for line in lines if not line.startswith("#"))
    patterns = [pattern for line in areas.values() for pattern in line.split()]
    assert all(any(ROOT.glob(pattern)) for pattern in patterns)
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    for file in (ROOT / "tests").rglob("test_*.py"):
        assert sum(path == file or path in file.parents for path in paths) == 1, file
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(f"`{area}`" in contributing for area in areas)


def test_what_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:\.?\w[\w.-]*/)+[\w.]*|\w+\.(?:py|md|toml))`", text))
    assert len(named) > 20
    for path in named - {"tests/methods/test_NAME.py", "tests/data/test_NAME.py"}:
        places = ROOT / path, ROOT / "ocsvm_jax" / "methods" / path, ROOT / "ocsvm_jax/data" / path
        assert any(place.exists() for place in places), path


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == ocsvm_jax.__version__
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Pinon",
        "Trombetta",
        "Lartizien",
    ]
    assert "2507.21164" in paper["url"]


def test_the_changelog_has_its_sections():
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    kinds = re.findall(r"^### (.+)", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
