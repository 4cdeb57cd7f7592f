"""Estimators and models that version 0.1 pickled, before files moved, still load and score alike.

tests/pickles/*.pkl are of 40 standard normal points in three dimensions, nu = .2; expected.json
holds what version 0.1 said of five other points.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "pickles"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
QUERIES = np.random.default_rng(1).normal(size=(5, 3))


@pytest.mark.parametrize("name", EXPECTED)
def test_pickles_of_before_load(name):
    model = pickle.loads((FOLDER / f"{name}.pkl").read_bytes())
    scores = model.decision_function if hasattr(model, "decision_function") else model.score
    np.testing.assert_allclose(np.asarray(scores(QUERIES)), EXPECTED[name], rtol=1e-4, atol=1e-5)
