"""scikit-learn's own checks, and what all detectors have in common."""

import inspect
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from ocsvm_jax import detectors
from ocsvm_jax.detectors import AE, Detector, EditedOgAE, OgAE, parameters
from ocsvm_jax.methods import METHODS

TINY = {"epochs": 2, "batch_size": 8}
CLASSES = [getattr(detectors, name) for name in detectors.__all__ if name != "Detector"]


def ids(value):
    return value.__name__ if inspect.isclass(value) else None


checks = parametrize_with_checks([AE(**TINY)])
# The code around the methods is one; these checks depend on what is trained in it.
GUIDED = (
    "check_estimators_dtypes",
    "check_fit_idempotent",
    "check_methods_subset_invariance",
    "check_outliers_fit_predict",
    "check_outliers_train",
)
guided = parametrize_with_checks([OgAE(**TINY)])


# As a list: the generator of scikit-learn 1.6 is more than the newest pytest takes.
@pytest.mark.parametrize(checks.args[0], list(checks.args[1]), **checks.kwargs)
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow  # each size of the checks compiles a program
@pytest.mark.parametrize(
    guided.args[0],
    [one for one in guided.args[1] if one[1].func.__name__ in GUIDED],
    **guided.kwargs,
)
def test_contract_of_scikit_learn_guided(estimator, check):
    check(estimator)


def test_there_is_one_for_every_method():
    assert sorted(cls._method for cls in CLASSES) == sorted(METHODS)
    assert all(issubclass(cls, Detector) for cls in CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=ids)
def test_parameters_are_those_of_the_method(cls):
    names = list(inspect.signature(cls).parameters)
    own = METHODS[cls._method].fields
    assert names == ["latent_dim", *own, *parameters.SHARED]
    assert {name: cls().get_params()[name] for name in own} == own
    described = [line.strip().partition(":")[0] for line in cls.__doc__.splitlines()]
    assert all(name in described for name in names)


def test_a_parameter_that_does_not_exist():
    with pytest.raises(TypeError, match=r"OgAE has no parameter 'latent_dims'. Did you mean 'lat"):
        OgAE(latent_dims=3)
    with pytest.raises(TypeError, match="AE has no parameter 'nu'"):
        AE(nu=0.1)


@pytest.mark.parametrize("cls", CLASSES, ids=ids)
def test_every_detector(cls, vectors, images, tmp_path):
    x, q = (images[:20], images) if cls._method in parameters.IMAGES_ONLY else vectors
    # One edit compiles in half of the time that all take.
    own = {"edits": ("erased",)} if cls is EditedOgAE else {}
    detector = cls(**TINY, **own).fit(x)
    assert detector.n_features_in_ == np.prod(x.shape[1:])
    scores = detector.score_samples(q)
    assert scores.dtype == np.float64
    assert scores.shape == (len(q),)
    names = detector.scores(q)
    assert list(names[parameters.SCORES[cls._method][0]][0]) == list(-scores)
    unused = {"ocsvm"} if "ocsvm" not in names else set()
    assert set(parameters.SCORES[cls._method]) - unused <= names.keys()
    np.testing.assert_array_equal(detector.decision_function(q), scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(q), np.where(scores >= detector.offset_, 1, -1))
    assert detector.latents(q).shape == (1, len(q), detector.latent_dim_)
    assert [entry["epoch"] for entry in detector.history_[0]] == [1, 2]
    detector.save(tmp_path / "detector.npz")
    copies = [cls.load(tmp_path / "detector.npz"), pickle.loads(pickle.dumps(detector))]
    for copy in copies:
        assert type(copy) is cls
        assert copy.offset_ == detector.offset_
        assert copy.get_params() == detector.get_params()
        np.testing.assert_array_equal(copy.score_samples(q), scores)


@pytest.mark.parametrize("score_by", ["last_m", "reconstruction"])
def test_other_scores(score_by, vectors):
    x, q = vectors
    detector = OgAE(**TINY, score_by=score_by).fit(x)
    np.testing.assert_array_equal(-detector.score_samples(q), detector.scores(q)[score_by][0])


def test_before_the_fit(vectors, tmp_path):
    for call in (lambda: AE().predict(vectors[0]), lambda: AE().save(tmp_path / "a.npz")):
        with pytest.raises(NotFittedError):
            call()


def test_grid_search_and_clone(vectors):
    x, far = vectors
    both, normal = np.concatenate([x, far]), np.repeat([1, 0], [len(x), len(far)])

    def separation(model, x, y):
        scores = model.score_samples(x)
        return np.median(scores[y == 1]) - np.median(scores[y == 0])

    folds = StratifiedKFold(2)
    search = GridSearchCV(AE(**TINY), {"latent_dim": [1, 2]}, scoring=separation, cv=folds)
    assert search.fit(both, normal).best_params_["latent_dim"] in (1, 2)
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 7}, "batch_size is 7; it must be even"),
        ({"latent_dim": 0}, "latent_dim is 0; it must be at least 1"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0; it must lie strictly"),
        ({"false_alarm": 0}, "false_alarm is 0; it must lie strictly"),
        ({"patience": -1}, "patience is -1; it must be at least 0"),
        ({"n_models": 0}, "n_models is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"scaling": "robsut"}, "scaling is 'robsut'.*Did you mean 'robust'"),
        ({"score_by": "last"}, "score_by is 'last'; it is one of.*Did you mean 'last_m'"),
        ({"final_nu": 0.0}, r"final_nu is 0.0; it must lie in \(0, 1\]"),
        ({"final_gamma": "neighbors"}, "final_gamma is 'neighbors'.*'neighbours' or 'chosen'"),
        ({"network": "convolution"}, "network is 'convolution'; it must be None, 'series' or a"),
        ({"network": (1, 2)}, "half of a network is 1; it must be a Flax"),
        ({"workdir": 3}, "workdir is 3; it must be None or a path"),
        ({"verbose": 1}, "verbose is 1; it must be True or False"),
        ({"dtype": "float16"}, "dtype is 'float16'; it is one of"),
        ({"nu": 2.0}, r"nu is 2.0; it must lie in \(0, 1\]"),
        ({"betas": (1.0,)}, r"betas is \(1.0,\); it must be two finite numbers"),
        ({"kernel": "linear"}, "linear"),
    ],
    ids=str,
)
def test_parameters_that_can_not_work(given, message, vectors):
    with pytest.raises((ValueError, TypeError), match=message):
        OgAE(**given).fit(vectors[0])
