"""The base class of the detectors: scikit-learn's interface around a trained method."""

import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ocsvm_jax import forks
from ocsvm_jax.detectors import detector_file, parameters
from ocsvm_jax.detectors.design import Design
from ocsvm_jax.detectors.fitted import Fitted, One, check_method
from ocsvm_jax.detectors.inputs import Scaling, checked_images
from ocsvm_jax.detectors.training import FEWEST_ROWS, Rows, digest_of, entered, plan_of, train
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.methods import METHODS
from ocsvm_jax.networks.fitting import Kind, default_latent_dim
from ocsvm_jax.sklearn.calibration import CalibratedMixin

Own = TypeVar("Own", bound="Detector")


class Detector(CalibratedMixin, OutlierMixin, BaseEstimator):
    """An outlier detector that trains a registered method; a subclass names the method.

    Attributes:
      offset_: decision_function = score_samples - offset_.
      n_features_in_: number of values of an input.
      feature_names_in_: (d,) names of the columns of X, if it has names.
      latent_dim_: number of latent dimensions.
      n_epochs_: number of epochs that were planned.
      history_: for each model, the metrics of each epoch.
      offset_fit_: after `calibrate`, the offset of the fit.
      calibration_scores_: (n_cal,) after `calibrate`, the scores of the calibration rows.
    """

    _method: str

    # Parameters that the code of all detectors reads.
    latent_dim: int | None
    network: Any
    workdir: Any
    verbose: bool

    def __init__(self, **given: Any):
        """Each subclass has the parameters of its method; see its docstring."""

    def __init_subclass__(cls, method: str | None = None, **options: Any):
        super().__init_subclass__(**options)
        if method is not None:
            cls._method = method
            cls.__init__ = parameters.constructor(method)
            cls.__doc__ = parameters.described(method, cls.__doc__ or "")

    def fit(self: Own, X: Any, y: Any = None) -> Own:
        """Trains on X, which should be normal rows for the most part; y is ignored.

        Args:
          X: vectors (n, d), images (n, h, w) or (n, h, w, c), or with network="series" series
            (n, t) or (n, t, c); at least 4 of them.
          y: ignored.

        Returns:
          The estimator itself.

        Raises:
          ValueError: if a parameter or X is invalid, `workdir` belongs to another fit, or a loss is
            no longer finite.
          RuntimeError: in a forked process, where JAX would hang.
        """
        del y
        forks.refuse(f"{type(self).__name__}.fit")
        given = self._given()
        parameters.check(self._method, given)
        x, kind = self._validated(X, reset=True)
        self._check_enough(x, kind)
        scaling = Scaling.fit(x, kind, given["scaling"])
        x = scaling.apply(x)
        rows = Rows.of(len(x), given["validation_fraction"], int(given["seed"]))
        design, numbers = self._design(given, scaling, len(rows.train))
        check_method(design, numbers)
        fitted, history = self._trained(design, numbers, x, rows)
        self._scaling, self._fitted, self.history_ = scaling, fitted, history
        self.latent_dim_, self.n_epochs_ = design.latent_dim, design.plan.epochs
        # Rows that were not trained on: the others score higher than new ones.
        self.offset_ = _offset(-fitted.anomaly(x[rows.held_out]), given["false_alarm"])
        self._drop_calibration()
        return self

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Minus the anomaly score of the method, (n,): larger is more normal."""
        return -self._with(X, "anomaly")

    def decision_function(self, X: Any) -> Float[np.ndarray, " n"]:
        """`score_samples` minus the offset, (n,); negative for what counts as an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Shaped[np.ndarray, " n"]:
        """+1 for normal rows and -1 for anomalies, (n,) integers."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def scores(self, X: Any) -> dict[str, Float[np.ndarray, "k n"]]:
        """All scores by name, (n_models, n) each, larger for more anomalous."""
        return self._with(X, "scores")

    def latents(self, X: Any) -> Float[np.ndarray, "k n d"]:
        """Latents of the rows in each model, (n_models, n, latent_dim_)."""
        return self._with(X, "latents")

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted detector to one `.npz` file, atomically and without pickle.

        Its calibration is kept, too. `load` of the same class reads it.

        Raises:
          FileNotFoundError: if the folder does not exist.
          sklearn.exceptions.NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        detector_file.write(path, self, self._given())

    @classmethod
    def load(cls: type[Own], path: str | os.PathLike, network: Any = None) -> Own:
        """Reads a detector written by `save`, which gives the same scores to the bit.

        Nothing in the file is executed. Scores on another device or release of JAX may differ by
        rounding.

        Args:
          path: the file.
          network: the pair (encoder, decoder) of the fit, if it was your own: the file holds its
            weights, but not its code.

        Raises:
          OSError: if the file cannot be read, for example FileNotFoundError.
          ValueError: if the file is damaged, is not a saved detector, is one of another class or
            format, or its weights are not those of the network.
        """
        saved = detector_file.read(path, cls._method, cls.__name__, network)
        detector = cls(**saved.parameters)
        detector.__dict__ |= saved.attributes
        return detector

    def _with(self, X: Any, what: str) -> Any:
        """A method of the fitted models, of the scaled rows."""
        check_is_fitted(self)
        forks.refuse(type(self).__name__)
        x, _ = self._validated(X, reset=False)
        return getattr(self._fitted, what)(self._scaling.apply(x))

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in parameters.defaults(self._method)}

    def _validated(self, X: Any, reset: bool) -> tuple[Shaped[np.ndarray, "n ..."], Kind]:
        """X as an array, and what it holds: the kind of the fit unless that is to be set."""
        name = type(self).__name__
        if reset:
            series = isinstance(self.network, str)
            axes = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
            kind: Kind = "series" if series else "images" if axes in (3, 4) else "vectors"
        else:
            kind = self._scaling.kind
        if kind == "vectors":
            x: Any = validate_data(self, X, dtype=[np.float64, np.float32], reset=reset)
            return x, kind
        x = checked_images(X, kind, name)
        if reset:
            self.n_features_in_ = int(np.prod(x.shape[1:]))
        else:
            self._scaling.check(x, name)
        return x, kind

    def _check_enough(self, x: Shaped[np.ndarray, "n ..."], kind: Kind) -> None:
        if len(x) < FEWEST_ROWS:
            raise ValueError(
                f"X has n_samples = {len(x)}; {type(self).__name__} needs at least {FEWEST_ROWS}, "
                "and hundreds to learn from."
            )
        why = parameters.IMAGES_ONLY.get(self._method)
        if why is not None and kind != "images":
            raise ValueError(
                f"X holds {kind} of shape {x.shape}; {type(self).__name__} {why}, and takes images "
                "only. OgAE takes both."
            )

    def _design(
        self, given: dict[str, Any], scaling: Scaling, rows: int
    ) -> tuple[Design, dict[str, Any]]:
        recipe = METHODS[self._method]
        settings = {name: parameters.settled(given[name]) for name in recipe.fields}
        numbers = recipe.numbers_in(settings)
        plan = plan_of(scaling.kind, rows, given["epochs"], given["batch_size"], given["patience"])
        own = None if isinstance(self.network, str) else self.network
        design = Design(
            method=self._method,
            settings=tuple(sorted((k, v) for k, v in settings.items() if k not in numbers)),
            kind=scaling.kind,
            shape=scaling.shape,
            latent_dim=int(self.latent_dim or default_latent_dim(scaling.shape)),
            network=None if own is None else tuple(own),
            learning_rate=float(given["learning_rate"]),
            dtype=given["dtype"],
            plan=plan,
        )
        return design, numbers

    def _trained(
        self, design: Design, numbers: dict[str, Any], x: Shaped[np.ndarray, "n ..."], rows: Rows
    ) -> tuple[Fitted, list[Any]]:
        given = self._given()
        seeds = [int(given["seed"]) + i for i in range(given["n_models"])]
        weights = self._weights(design, len(seeds)) if given["warm_start"] else None
        workdir = None if self.workdir is None else Path(self.workdir)
        tell = (lambda line: print(f"[{type(self).__name__}] {line}")) if self.verbose else None
        with entered(workdir, self._identity(given, design, weights), x):
            outcomes = train(
                design,
                numbers,
                seeds,
                x,
                rows,
                workdir=workdir,
                weights=weights,
                tell=tell,
            )
        ones = [One(seed, found.state) for seed, found in zip(seeds, outcomes, strict=True)]
        score_by = given["score_by"] or parameters.SCORES[self._method][0]
        fitted = Fitted(design, numbers, score_by, ones)
        final = Final(given["final_nu"], given["final_gamma"])
        return fitted.with_finals(x[rows.train], final), [found.history for found in outcomes]

    def _identity(self, given: dict[str, Any], design: Design, weights: Any) -> dict[str, Any]:
        """What decides on the training, for the record of a working directory."""
        # What comes after the training, or only tells of it.
        free = ("score_by", "final_nu", "final_gamma", "false_alarm", "workdir", "verbose")
        kept = {k: parameters.plain(v) for k, v in given.items() if k not in (*free, "network")}
        own = None if design.network is None else [type(half).__name__ for half in design.network]
        return {"method": self._method, **kept, "network": own, "weights": digest_of(weights)}

    def _weights(self, design: Design, models: int) -> list[Any] | None:
        """The states of the last fit, for a warm start."""
        before: Fitted | None = getattr(self, "_fitted", None)
        if before is None:
            return None
        same = ("method", "kind", "shape", "latent_dim", "network")
        other = [name for name in same if getattr(before.design, name) != getattr(design, name)]
        if len(before.ones) != models:
            other.append("n_models")
        if other:
            raise ValueError(
                f"warm_start is True, but the last fit had another {other[0]}; set warm_start to "
                "False to start from new weights."
            )
        return [one.state for one in before.ones]


def _offset(scores: Float[np.ndarray, " h"], false_alarm: float) -> float:
    """The threshold of the conformal rule, or the lowest score if there are too few for the rate.

    The rule promises its rate for rows that nothing was decided by; early stopping looks at these.
    """
    place = int(false_alarm * (len(scores) + 1))
    return float(np.sort(scores)[max(place, 1) - 1])
