import numpy as np
from scipy.stats import percentileofscore

from ocsvm_jax.detectors.ranks import mean_rank, rank

REFERENCE = np.sort(np.random.default_rng(0).normal(size=50))


def test_reference_scores_have_their_places():
    np.testing.assert_allclose(rank(REFERENCE, REFERENCE), np.arange(1, 51) / 51, rtol=1e-15)


def test_between_two_of_them():
    scores = np.random.default_rng(1).uniform(REFERENCE[0], REFERENCE[-1], 40)
    below = percentileofscore(REFERENCE, scores, kind="weak") / 100 * 50
    found = 51 * rank(scores, REFERENCE)
    assert np.all((below <= found) & (found <= below + 1))


def test_ties_share_the_middle():
    reference = np.array([0.0, 1.0, 1.0, 1.0, 2.0])
    np.testing.assert_allclose(rank(np.array([0.0, 1.0, 2.0]), reference), [1 / 6, 3 / 6, 5 / 6])


def test_beyond_the_ends_the_order_remains():
    above = rank(REFERENCE[-1] + np.array([0.0, 1e-6, 1.0, 1e3, np.inf]), REFERENCE)
    assert np.all(np.diff(above) > 0)
    assert above[-1] == 1
    below = rank(REFERENCE[0] - np.array([0.0, 1.0, 1e3]), REFERENCE)
    assert np.all(np.diff(below) < 0)
    assert np.all(below > 0)
    assert np.isnan(rank(np.array([np.nan]), REFERENCE)[0])


def test_reference_scores_that_are_all_equal():
    found = rank(np.array([-1.0, 0.0, 1.0]), np.zeros(9))
    assert found[0] < found[1] == 0.5 < found[2]


def test_the_mean_does_not_depend_on_units():
    scores = [np.random.default_rng(i).normal(size=7) for i in range(2)]
    found = mean_rank(scores, [REFERENCE, REFERENCE])
    other = mean_rank([scores[0], 1e3 * scores[1] + 5], [REFERENCE, 1e3 * REFERENCE + 5])
    np.testing.assert_allclose(found, other, rtol=1e-9)
    np.testing.assert_allclose(found, (rank(scores[0], REFERENCE) + rank(scores[1], REFERENCE)) / 2)
