"""The code of docs/ runs as it stands, each section on the shared setup of its page."""

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
# What a section's blocks import; jaxopt, cvxpylayers and qpax are no dependencies.
PEERS = {
    "jaxopt": ("jaxopt",),
    "cvxpylayers": ("cvxpy", "cvxpylayers", "torch"),
    "qpax": ("qpax",),
}


def _blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def _sections():
    """The blocks before the first heading, and those under each."""
    setup, *rest = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return _blocks(setup), {
        name: _blocks(text) for name, text in zip(rest[::2], rest[1::2], strict=True)
    }


SETUP, SECTIONS = _sections()


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


def test_scikit_learn(run):
    run(SETUP + SECTIONS["scikit-learn"])


# What the peers themselves warn of is not ours to mend.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_gives_the_same(run, name):
    missing = [peer for peer in PEERS[name] if importlib.util.find_spec(peer) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    run(SETUP + SECTIONS[name])


@pytest.mark.parametrize("name", ["scikit-learn", *PEERS])
def test_every_section_asserts_what_it_says(name):
    assert any("assert_allclose" in block and "atol=1e-6" in block for block in SECTIONS[name])


def test_what_the_peers_are_compared_with(run):
    names = run(SETUP)
    x, queries, nu, gamma = (names[key] for key in ("x", "queries", "nu", "gamma"))
    expected = OneClassSVM(nu=nu, gamma=gamma, tol=1e-10).fit(x).decision_function(queries)
    actual = nu * len(x) * names["f_ours"](gamma)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
