"""Explains decision values by gradients, by comparison with a normal point, and by their terms.

All functions explain f, positive inside, of points or of an encoder's latents. A score that is
larger for more anomalous points is -f, and its explanations are the negatives of these.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from ocsvm_jax.arrays.arguments import as_float, is_concrete
from ocsvm_jax.kernels import Precomputed, gram
from ocsvm_jax.model import OCSVM

Encoder = Callable[[Array], Array]


class Attributions(NamedTuple):
    """How much each input moves f from its value at the baseline.

    Attributes:
      values: contributions in the shape of x; they sum to f(x) - f(baseline) - residual per row.
      residual: (b,) error of the quadrature; it decreases with `num_steps`.
    """

    values: Float[Array, "b *inputs"]
    residual: Float[Array, " b"]


class Contributions(NamedTuple):
    """The largest terms of f(x) = sum_j alpha_j k(z_j, x) - rho.

    Attributes:
      support: (b, k) indices into `model.support_vectors`, the largest term first.
      values: (b, k) their terms alpha_j k(z_j, x), in units of the kernel.
      rest: (b,) sum of all other terms: f(x) = sum(values) + rest - rho.
      rows: (b, k) rows of these support vectors in the points of the fit; None for a model without
        `info`.
    """

    support: Int[Array, "b k"]
    values: Float[Array, "b k"]
    rest: Float[Array, " b"]
    rows: Int[Array, "b k"] | None


def decision_gradient(
    model: OCSVM, x: Num[ArrayLike, "b *inputs"], encoder: Encoder | None = None
) -> Float[Array, "b *inputs"]:
    """The gradient of each row's decision value with respect to its inputs.

    It points towards more normal inputs; for images and an encoder it is a saliency map. It is
    local: far from all support vectors f is flat and the gradient is 0, where
    `integrated_gradients` is still informative.

    Args:
      model: a model with any kernel but a precomputed one.
      x: (b, d) points; with an encoder, whatever it takes, such as images (b, h, w, c).
      encoder: maps x to latents (b, d), each row independently, so batch normalisation must be in
        inference mode. For a `Method` pass `functools.partial(method.encode, state)`.

    Returns:
      The gradient, in the shape of x. Where f has a kink (the Laplacian kernel, where a coordinate
      equals that of a support vector) it is that of one side.

    Raises:
      ValueError: if the kernel is precomputed, the model is a stack of models, x holds NaN or
        infinite values, or latents or points are not (b, d).
    """
    model, x = _in_coordinates(model, x, encoder)
    decision, x = _decision(model, encoder), _checked_points("x", x)
    return jax.grad(lambda x: jnp.sum(decision(x)))(x)


def integrated_gradients(
    model: OCSVM,
    x: Num[ArrayLike, "b *inputs"],
    baseline: Num[ArrayLike, "*inputs"],
    encoder: Encoder | None = None,
    *,
    num_steps: int = 32,
) -> Attributions:
    """Distributes f(x) - f(baseline) completely over the inputs.

    The gradient is integrated along the straight line from the baseline to x by Gauss-Legendre
    quadrature, and multiplied by x - baseline (Sundararajan, Taly and Yan 2017, arXiv 1703.01365,
    equation 1). An input that f does not depend on gets 0, and so does an input in which x equals
    the baseline.

    Args:
      model: a model with any kernel but a precomputed one.
      x: (b, d) points; with an encoder, whatever it takes.
      baseline: (d,), or the shape of one image: a normal point to compare with, such as the most
        normal point of the fit, `x_fit[jnp.argmax(model.decision_function(x_fit))]`.
      encoder: as for `decision_gradient`.
      num_steps: number of points on the line at which the gradient is computed, one after the
        other; a narrow kernel or an encoder with kinks needs more.

    Raises:
      ValueError: as `decision_gradient`, and if the baseline does not have the shape of a row of x,
        or num_steps is not positive.
    """
    if encoder is None and model.centre is not None:
        baseline = model.in_coordinates(np.asarray(baseline)[None])[0]
    model, x = _in_coordinates(model, x, encoder)
    decision, x = _decision(model, encoder), _checked_points("x", x)
    baseline = _checked_points("baseline", baseline).astype(x.dtype)
    if baseline.shape != x.shape[1:]:
        raise ValueError(
            f"baseline has shape {baseline.shape}; it must have that of a row of x, {x.shape[1:]}."
        )
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; it must be at least 1.")
    nodes, weights = np.polynomial.legendre.leggauss(num_steps)
    # From [-1, 1] to [0, 1], where 0 is the baseline and 1 is x.
    steps = jnp.asarray((nodes + 1) / 2, x.dtype), jnp.asarray(weights / 2, x.dtype)
    start = jnp.broadcast_to(baseline[None], x.shape)
    difference = x - start
    gradient = jax.grad(lambda x: jnp.sum(decision(x)))

    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        node, weight = step
        return total + weight * gradient(start + node * difference), None

    mean_gradient, _ = lax.scan(add, jnp.zeros_like(x), steps)
    values = difference * mean_gradient
    explained = jnp.sum(values, axis=tuple(range(1, x.ndim)))
    change = (decision(x) - decision(baseline[None])).astype(x.dtype)
    return Attributions(values, change - explained)


def contributions(model: OCSVM, x: Num[ArrayLike, "b d"], k: int) -> Contributions:
    """The k largest terms of each decision value: the support vectors that x agrees with most.

    For a kernel of distances these are the nearest ones, weighted by alpha. All m terms of each row
    are computed.

    Args:
      model: a model with any kernel.
      x: (b, d) points, such as latents; for a precomputed kernel (b, n), the kernel with all points
        of the fit.
      k: number of terms, from 1 to the number m of support vectors.

    Raises:
      ValueError: if k is out of range, x has another shape or is not finite, or the model is a
        stack of models.
    """
    _check_single(model)
    model, x = _in_coordinates(model, x, None)
    x = _checked_points("x", x).astype(model.coefficients.dtype)
    m = model.coefficients.shape[0]
    if not 1 <= k <= m:
        raise ValueError(f"k is {k}; the model has {m} support vectors, so it must be 1 to {m}.")
    terms = _kernel_values(model, x) * model.coefficients[None, :]
    values, support = lax.top_k(terms, k)
    others = jnp.put_along_axis(terms, support, jnp.zeros_like(values), axis=1, inplace=False)
    rows = None if model.info is None else model.info.support[support]
    return Contributions(support, values, jnp.sum(others, axis=1), rows)


def _in_coordinates(model: OCSVM, x: Any, encoder: Encoder | None) -> tuple[OCSVM, Any]:
    """The model without its centre, and x minus the centre before any cast; latents stay as is."""
    if model.centre is None or encoder is not None:
        return model, x
    return model.without_centre(), model.in_coordinates(x)


def _kernel_values(model: OCSVM, x: Float[Array, "b d"]) -> Float[Array, "b m"]:
    if not isinstance(model.kernel, Precomputed):
        # Support vectors first, as in the decision function, since `gram` centres by the first.
        return gram(model.kernel, model.support_vectors, x).T
    n = model.kernel.num_points
    if x.ndim != 2 or x.shape[1] != n:
        raise ValueError(
            f"x has shape {x.shape}; for a precomputed kernel it must be the kernel of each query "
            f"with all {n} points of the fit, (b, {n})."
        )
    return x[:, model.support_vectors[:, 0]]


def _decision(model: OCSVM, encoder: Encoder | None) -> Callable[[Array], Array]:
    """The decision function of x or of its latents; refuses models that have no gradient."""
    _check_single(model)
    if isinstance(model.kernel, Precomputed):
        raise ValueError(
            "the model has a precomputed kernel: f is not a function of points and has no "
            "gradient. Fit with a kernel of ocsvm_jax.kernels or a function of two points."
        )
    if encoder is None:
        return model.decision_function

    def decision(x: Array) -> Array:
        z = encoder(x)
        d = model.support_vectors.shape[1]
        if z.shape != (x.shape[0], d):
            wanted = f"this model takes latents ({x.shape[0]}, {d})."
            raise ValueError(f"the encoder maps {x.shape} to {z.shape}; {wanted}")
        return model.decision_function(z)

    return decision


def _check_single(model: OCSVM) -> None:
    if jnp.ndim(model.rho) != 0:
        raise ValueError(
            f"rho has shape {jnp.shape(model.rho)}: this is a stack of models. Take one, "
            "jax.tree.map(lambda leaf: leaf[i], model), or use jax.vmap."
        )


def _checked_points(name: str, x: Any) -> Array:
    x = as_float(x)
    if is_concrete(x) and not np.all(np.isfinite(x)):
        raise ValueError(f"{name} holds NaN or infinite values; remove or impute them first.")
    return x
