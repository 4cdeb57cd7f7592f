"""The formulas of the benchmarks that the documents rest a claim on."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def definitions():
    spec = importlib.util.spec_from_file_location(
        "definitions", ROOT / "benchmarks" / "definitions.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def independent(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that know nothing of each other: every label at every score."""
    labels = np.arange(100) < 100 * share
    scores = np.arange(50.0)
    return np.tile(labels, 50).astype(int), np.repeat(scores, 100)


@pytest.mark.parametrize("share", [0.2, 0.49])
def test_chance(definitions, share):
    labels, scores = independent(share)
    # The lines from (0, 1) to (1/2, share) and on to (1, share).
    expected = (1 + share) / 4 + share / 2
    assert definitions.aupr_of_decisions(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert definitions.upper_sensitivity(labels, scores) == pytest.approx(0.65, abs=1e-12)


def test_perfect_scores(definitions):
    labels = np.repeat([0, 1], 50)
    assert definitions.aupr_of_decisions(labels, labels + np.arange(100) / 200) == 1
    assert definitions.upper_sensitivity(labels, labels.astype(float)) == 1


def test_the_upper_sensitivity_and_the_partial_area_make_the_whole(definitions):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    scores = labels + 2 * rng.standard_normal(500)
    standardised = float(roc_auc_score(labels, scores, max_fpr=0.3))
    # McClish: 1/2 at the area under the diagonal, 1 at all of it.
    partial = 0.045 + (0.3 - 0.045) * (2 * standardised - 1)
    whole = partial + 0.7 * definitions.upper_sensitivity(labels, scores)
    assert whole == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.488])
def test_at_chance_the_area_is_the_share(definitions, share):
    assert definitions.implied_prevalence(0.5, share) == pytest.approx(share, abs=1e-4)


def test_two_normal_distributions_imply_their_share(definitions):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [120_000, 80_000])
    scores = rng.standard_normal(200_000) + 0.3 * labels
    found = definitions.implied_prevalence(
        roc_auc_score(labels, scores), definitions.judge.FUNCTIONS["AUPR"](labels, scores)
    )
    assert found == pytest.approx(0.4, abs=0.01)
