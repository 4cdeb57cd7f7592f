"""Why a point has its decision value: its gradient, its difference to a normal point, its terms.

Everything here explains f, positive inside, or f of an encoder's latents. A score that is larger
for more anomalous is minus f; its explanations are minus these.
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
    """How much each input moved f from its value at the baseline.

    Attributes:
      values: of the shape of x; the sum over a row is f(x) - f(baseline) - residual.
      residual: (b,) what the quadrature missed; more `num_steps` make it smaller.
    """

    values: Float[Array, "b *inputs"]
    residual: Float[Array, " b"]


class Contributions(NamedTuple):
    """The largest terms of f(x) = sum_j alpha_j k(z_j, x) - rho.

    Attributes:
      support: (b, k) which of `model.support_vectors`, the largest term first.
      values: (b, k) their terms alpha_j k(z_j, x), in units of the kernel.
      rest: (b,) the sum of all other terms: sum(values) + rest - rho is f(x).
      rows: (b, k) which rows of the points fitted these support vectors were; None for a model
        without `info`.
    """

    support: Int[Array, "b k"]
    values: Float[Array, "b k"]
    rest: Float[Array, " b"]
    rows: Int[Array, "b k"] | None


def decision_gradient(
    model: OCSVM, x: Num[ArrayLike, "b *inputs"], encoder: Encoder | None = None
) -> Float[Array, "b *inputs"]:
    """The gradient of each row's decision value in its inputs: the way to more normal.

    For images and an encoder it is a saliency map. It is local: far from all support vectors f is
    flat and the gradient 0, where `integrated_gradients` still tells something.

    Args:
      model: of any kernel but a precomputed one.
      x: (b, d) points; with an encoder whatever it takes, such as images (b, h, w, c).
      encoder: maps x to latents (b, d) and each row on its own: batch normalisation as in
        inference. Of a `Method` it is `functools.partial(method.encode, state)`.

    Returns:
      The gradient, of the shape of x. Where f has a kink (the Laplacian kernel, in line with a
      support vector) it is that of one side.

    Raises:
      ValueError: on a precomputed kernel, a stack of models, NaN or infinite x, or latents or
        points that are not (b, d).
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
    """Shares out f(x) - f(baseline) among the inputs, completely.

    The gradient integrated along the straight line from the baseline to x, by Gauss-Legendre
    quadrature, times x - baseline (Sundararajan, Taly and Yan 2017, arXiv 1703.01365, equation 1).
    An input that f does not depend on gets 0, as does one in which x equals the baseline.

    Args:
      model: of any kernel but a precomputed one.
      x: (b, d) points; with an encoder whatever it takes.
      baseline: (d,), or the shape of one image: a normal point that the answer compares with, such
        as the most normal one fitted, `x_fit[jnp.argmax(model.decision_function(x_fit))]`.
      encoder: as for `decision_gradient`.
      num_steps: at how many points of the line the gradient is taken, one after the other; a
        narrow kernel or an encoder with kinks takes more.

    Raises:
      ValueError: as `decision_gradient`, or if the baseline is not of the shape of a row of x, or
        num_steps is not positive.
    """
    if encoder is None and model.centre is not None:
        baseline = model.in_coordinates(np.asarray(baseline)[None])[0]
    model, x = _in_coordinates(model, x, encoder)
    decision, x = _decision(model, encoder), _checked_points("x", x)
    baseline = _checked_points("baseline", baseline).astype(x.dtype)
    if baseline.shape != x.shape[1:]:
        raise ValueError(
            f"baseline has shape {baseline.shape}; one row of x has {x.shape[1:]}, and so must it."
        )
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; it must be at least 1.")
    nodes, weights = np.polynomial.legendre.leggauss(num_steps)
    # From [-1, 1] to the way from the baseline, 0, to x, 1.
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
    """The k largest terms of each decision value: with which support vectors a point agrees most.

    For a kernel of distances the nearest, weighted by alpha. It forms all m terms of each row.

    Args:
      model: of any kernel.
      x: (b, d) points, such as latents; of a precomputed kernel (b, n), the kernel with all points.
      k: how many, from 1 to the number m of support vectors.

    Raises:
      ValueError: if k is out of range, x of another shape or not finite, or on a stack of models.
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
    """Points moved as the model's support vectors were, before any cast; latents need no host."""
    if model.centre is None or encoder is not None:
        return model, x
    return model.without_centre(), model.in_coordinates(x)


def _kernel_values(model: OCSVM, x: Float[Array, "b d"]) -> Float[Array, "b m"]:
    if not isinstance(model.kernel, Precomputed):
        # The support vectors first, as in the decision function: what is first is centred.
        return gram(model.kernel, model.support_vectors, x).T
    n = model.kernel.num_points
    if x.ndim != 2 or x.shape[1] != n:
        raise ValueError(
            f"x has shape {x.shape}; of a precomputed kernel it is the kernel of each query with "
            f"all {n} points fitted, (b, {n})."
        )
    return x[:, model.support_vectors[:, 0]]


def _decision(model: OCSVM, encoder: Encoder | None) -> Callable[[Array], Array]:
    """The decision function of x, or of its latents; what cannot be differentiated is refused."""
    _check_single(model)
    if isinstance(model.kernel, Precomputed):
        raise ValueError(
            "the model is of a precomputed kernel: f is no function of points, so there is no "
            "gradient in them. Fit with a kernel of ocsvm_jax.kernels or a function of two points."
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
