"""The code of docs/ runs as it stands, each section on the shared setup of its page."""

import importlib
import importlib.util
import re
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
from sklearn.svm import OneClassSVM

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "coming_from.md"
TOOLS_PAGE = ROOT / "docs" / "ecosystem.md"
# What a section's blocks import; none of the peers is a dependency.
PEERS = {
    "jaxopt": ("jaxopt",),
    "cvxpylayers": ("cvxpy", "cvxpylayers", "torch"),
    "qpax": ("qpax",),
    "moreau": ("moreau",),
}
# The same of the page on other tools.
TOOLS = {
    "A threshold at a false-alarm rate": (),
    "scikit-learn itself": (),
    "ONNX": ("skl2onnx", "onnxruntime"),
    "skops": ("skops",),
    "MLflow": ("mlflow", "skops"),
    "Processes": (),
    "PyOD": ("pyod",),
    "Sparse points": (),
    "SVDD": (),
}


def _blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def _sections(page):
    """The blocks before the first heading, and those under each."""
    setup, *rest = re.split(r"^## (.+)\n", page.read_text(), flags=re.MULTILINE)
    return _blocks(setup), {
        name: _blocks(text) for name, text in zip(rest[::2], rest[1::2], strict=True)
    }


SETUP, SECTIONS = _sections(PAGE)
TOOLS_SETUP, TOOLS_SECTIONS = _sections(TOOLS_PAGE)


@pytest.fixture
def run(monkeypatch):
    """Runs blocks as a reader does, without the settings of this suite; the names they leave."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    def run_blocks(blocks):
        names: dict = {}
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            for block in blocks:
                exec(compile(block, PAGE.name, "exec"), names)
        return names

    return run_blocks


def test_every_section_is_known():
    assert list(SECTIONS) == ["scikit-learn", *PEERS]
    assert list(TOOLS_SECTIONS) == list(TOOLS)


def test_scikit_learn(run):
    run(SETUP + SECTIONS["scikit-learn"])


def _skip_without(modules):
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


# What the peers themselves warn of is not ours to mend.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_gives_the_same(run, name):
    _skip_without(PEERS[name])
    run(SETUP + SECTIONS[name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TOOLS)
def test_a_tool(run, name, monkeypatch, tmp_path):
    _skip_without(TOOLS[name])
    monkeypatch.chdir(tmp_path)  # MLflow leaves files where it runs
    names = list(TOOLS)
    # The first two sections leave what the others compare with.
    before = [b for key in names[: min(2, names.index(name))] for b in TOOLS_SECTIONS[key]]
    if name == "PyOD":
        ocsvm = importlib.import_module("pyod.models.ocsvm")
        monkeypatch.setattr(ocsvm, "OneClassSVM", ocsvm.OneClassSVM)  # put back afterwards
    run(TOOLS_SETUP + before + TOOLS_SECTIONS[name])


@pytest.mark.parametrize("name", ["scikit-learn", *PEERS])
def test_every_section_asserts_what_it_says(name):
    assert any("assert_allclose" in block and "atol=1e-6" in block for block in SECTIONS[name])


def test_what_the_peers_are_compared_with(run):
    names = run(SETUP)
    x, queries, nu, gamma = (names[key] for key in ("x", "queries", "nu", "gamma"))
    expected = OneClassSVM(nu=nu, gamma=gamma, tol=1e-10).fit(x).decision_function(queries)
    actual = nu * len(x) * names["f_ours"](gamma)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
