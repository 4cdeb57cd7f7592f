"""How well the one-class SVM of a batch tells its images from artificial anomalies."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ocsvm_jax.guidance import Halves
from ocsvm_jax.kernels import log_gram
from ocsvm_jax.methods.arguments import ArgumentError, Gamma

# Lower bound on alpha that keeps the logarithm of a kernel sum finite.
_ALPHA_FLOOR = 1e-12


def check_positive_kernel(method: str, kernel: str, gamma: Gamma) -> None:
    """Raises ArgumentError unless kernel and gamma give sums of which there are log-odds."""
    if kernel == "linear":
        raise ArgumentError(
            f"kernel is 'linear'; {method} needs 'rbf' or 'laplacian': its log-odds are those of "
            "sums of a positive kernel."
        )
    if isinstance(gamma, str):
        raise ArgumentError(
            f"gamma is {gamma!r}; {method} needs a number: the log-odds are those of a "
            "kernel of one width."
        )


def log_odds_of_anomalies(halves: Halves, z_anomalous: Float[Array, "half d"]) -> Float[Array, ""]:
    """mean_i log(1 + e(z_A,i) / e(z_L,i)); near 0 where the anomalies z_A lie outside.

    e(z) = sum_j alpha_j k(z_sv,j, z) is the decision function of the batch's one-class SVM plus
    rho, so rho cancels. z_A is standardised by the statistics of z_L.

    Args:
      halves: solved halves of the latents, with an RBF or a Laplacian kernel.
      z_anomalous: (b/2, d) latents of the artificial anomalies that were made from the images of
        z_L, in their order; not standardised.
    """
    anomalous = (z_anomalous - halves.mean_L[None, :]) / halves.std_L[None, :]
    log_odds = _log_expansion(halves, anomalous) - _log_expansion(halves, halves.z_L)
    return jnp.mean(jax.nn.softplus(log_odds))


def _log_expansion(halves: Halves, z: Float[Array, "m d"]) -> Float[Array, " m"]:
    """log sum_j alpha_j k(z_i, z_sv,j), without underflow far from all z_sv."""
    log_alpha = jnp.log(jnp.maximum(halves.solution.alpha, _ALPHA_FLOOR))
    return jax.nn.logsumexp(log_gram(halves.kernel, z, halves.z_sv) + log_alpha[None, :], axis=1)
