"""What a user writes with NumPy arrays; pyright checks it, and nothing runs it."""

import numpy as np
from numpy.typing import NDArray

import ocsvm_jax
from ocsvm_jax import OCSVM, decision_function, gram, guidance_loss, ocsvm_fit, ocsvm_solve, rbf
from ocsvm_jax.conformal import (
    benjamini_hochberg,
    conformal_p_values,
    conformal_threshold,
)
from ocsvm_jax.detectors import AE, OgAE
from ocsvm_jax.explain import contributions, decision_gradient, integrated_gradients
from ocsvm_jax.export import export_scoring, save_exported
from ocsvm_jax.localized import fit_locations, log_score_locations, score_locations
from ocsvm_jax.path import (
    choose_model,
    finest_gamma,
    leave_folds_out,
    leave_one_out,
    mass_volume_area,
    ocsvm_ensemble,
    ocsvm_path,
    robust_defaults,
    uniform_outlier_error,
)
from ocsvm_jax.sklearn import SVDD, OneClassSVM

Array32 = NDArray[np.float32]


def heart(x: Array32, weight: Array32, untyped: np.ndarray) -> float:
    """The solver and its neighbours."""
    K = gram(rbf(0.5), x)
    K = gram(ocsvm_jax.scaled(rbf(0.5), x[0]), untyped, x)
    solution = ocsvm_solve(x @ x.T, 0.1, sample_weight=weight, tol=1e-6, max_steps=100)
    solution = ocsvm_solve(K, nu=np.float32(0.1), sample_weight=np.ones(len(x)))
    f = decision_function(solution, x @ x.T)
    loss, aux = guidance_loss(x, nu=0.1, gamma=0.5, betas=(1.0, 0.5))
    gamma: float = ocsvm_jax.resolve_gamma("scale", x, weight)
    return float(f[0]) + float(loss) + float(aux.gamma) + float(solution.rho) + gamma


def model(x: Array32, weight: Array32, integers: NDArray[np.int64]) -> OCSVM:
    """Any number of points."""
    fitted = ocsvm_fit(x, 0.1, rbf(0.5), sample_weight=weight)
    fitted = ocsvm_fit(integers, nu=0.1, start=fitted, callback=lambda progress: None)
    labels = np.asarray(fitted.predict(x))
    share = float(np.mean(labels == 1)) + float(fitted.decision_function(x).mean())
    calibrated = fitted.calibrate(x, false_alarm=0.05, confidence=0.9)
    flags = np.asarray(calibrated.flagged(x)) & (np.asarray(calibrated.p_values(x)) < share)
    fitted.save("model.npz")
    decision_gradient(fitted, x[flags])
    integrated_gradients(fitted, x, x[0], num_steps=8)
    contributions(fitted, x, 3)
    save_exported(export_scoring(fitted, platforms=["cpu"]), "scoring.jax")
    return OCSVM.load("model.npz")


def conformal(f_calibration: Array32, f: Array32) -> np.ndarray:
    """Thresholds and p-values."""
    p = conformal_p_values(f_calibration, f)
    selected = benjamini_hochberg(np.asarray(p), 0.1)
    return np.asarray(f < conformal_threshold(f_calibration, 0.05)) & np.asarray(selected)


def grids(x: Array32, weight: Array32, fold: NDArray[np.int32]) -> float:
    """Path, folds and choices."""
    solutions = ocsvm_path(x, np.array([0.1, 0.2]), weight, sample_weight=weight)
    out = leave_one_out(x @ x.T, 0.1)
    leave_folds_out(x @ x.T, 0.1, fold, 5, sample_weight=weight)
    uniform_outlier_error(np.asarray(out.decision), weight)
    mass_volume_area(weight, weight)
    finest_gamma(weight, weight, 0.2)
    chosen = choose_model(x, [0.1, 0.2], weight, sample_weight=weight)
    defaults = robust_defaults(x, weight)
    ensemble = ocsvm_ensemble(x, weight, sample_weight=weight)
    scores = np.asarray(ensemble.score_samples(x)) + np.asarray(ensemble.p_values(x))
    return float(scores[0]) + defaults.nu + float(chosen.nu) + float(solutions.rho[0, 0])


def locations(z: Array32, present: NDArray[np.bool_]) -> np.ndarray:
    """One model per location."""
    fitted = fit_locations(z, present, nu=0.1, gamma="scale")
    return np.asarray(score_locations(fitted, z)) + np.asarray(log_score_locations(fitted, z))


def estimators(x: Array32, weight: Array32) -> np.ndarray:
    """scikit-learn's interface."""
    estimator = OneClassSVM(nu=0.1, gamma=0.5).fit(x, sample_weight=weight)
    estimator.calibrate(x, false_alarm=0.05)
    labels: np.ndarray = SVDD(nu=0.1).fit(x).predict(x)
    return labels * estimator.decision_function(x) + estimator.score_samples(x)


def detectors(x: Array32, images: NDArray[np.uint8]) -> np.ndarray:
    """The methods of the paper."""
    detector = OgAE(latent_dim=8, guidance_weight=1e-3, n_models=2).fit(images)
    detector.calibrate(images, false_alarm=0.05).save("detector.npz")
    labels: np.ndarray = AE(epochs=10, workdir="work").fit(x).predict(x)
    latents = OgAE.load("detector.npz").latents(images)
    return labels * detector.score_samples(images) + detector.p_values(images) + latents[0, :, 0]


def lazily(x: Array32) -> object:
    """Submodules without an import of their own."""
    assert ocsvm_jax.__version__
    ocsvm_jax.path.robust_defaults(x)
    ocsvm_jax.conformal.conformal_threshold(x[0], 0.1)
    return ocsvm_jax.sklearn.OneClassSVM, ocsvm_jax.explain.contributions, ocsvm_jax.methods.METHODS
