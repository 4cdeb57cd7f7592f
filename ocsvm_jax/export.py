"""Exports scoring as StableHLO, which runs wherever JAX does, without this package."""

import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import export, lax
from jaxtyping import Array, Float

from ocsvm_jax import extras
from ocsvm_jax.files import whole_file
from ocsvm_jax.kernels import Precomputed, gram
from ocsvm_jax.model import OCSVM

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

# Number of support vectors summed at once. It bounds the kernel values in memory per row, and the
# rounding error of the sum.
_CENTRES = 2048


def export_scoring(
    model: OCSVM, *, platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> export.Exported:
    """Exports (x, threshold) -> {"f", "flagged"} for any number of rows and several platforms.

        save_exported(export_scoring(model), "scoring.jax")

    and, where only JAX (and flatbuffers) is installed,

        from jax import export
        scoring = export.deserialize(open("scoring.jax", "rb").read())
        out = scoring.call(x, threshold)

    The arguments are arrays in the dtype of the model and are not converted. x is (b, d) with
    b >= 1 (for a precomputed kernel (b, n), the kernel with all n points). threshold is (), such as
    0 or `conformal_threshold(f, 0.01, dtype=np.float32)`, which is rounded down; rounded to the
    nearest it might flag a value that equals it. Compute the f of the calibration with the exported
    function, whose rounding may differ from the model's. In the result, f (b,) holds the decision
    values, positive inside, and flagged (b,) is f < threshold, or true where f is NaN, since a row
    that cannot be scored should not pass. The code is compiled again for each b: pad to a few
    sizes, or call `jax.jit(scoring.call)`, which keeps compiled programs. A float64 model needs
    `jax_enable_x64` when it is called, too.

    Args:
      model: one fitted model, with any kernel, including your own functions.
      platforms: platforms to export for, of "cpu", "cuda", "rocm" and "tpu".

    Returns:
      The exported function. Releases of JAX keep it readable for at least six months.

    Raises:
      ValueError: if the model is a stack of models or has a centre, or a platform is unknown.
    """
    if jnp.ndim(model.rho) != 0:
        raise ValueError(
            f"rho has shape {jnp.shape(model.rho)}: this is a stack of models. Export them one by "
            "one: jax.tree.map(lambda leaf: leaf[i], model)."
        )
    if model.centre is not None:
        raise ValueError(
            "the model has a centre: its points lie so far from 0 that the dtype of the exported "
            "function cannot hold them. Export model.without_centre(), and subtract "
            "np.sum(np.float64(model.centre), axis=0) from x, in float64, before the cast."
        )
    if isinstance(platforms, str) or not platforms or not set(platforms) <= set(PLATFORMS):
        raise ValueError(f"platforms is {platforms!r}; it must be a sequence of {PLATFORMS}.")

    def score(x: Array, threshold: Array) -> dict[str, Array]:
        f = _kernel_expansion(model, x) - model.rho
        return {"f": f, "flagged": ~(f >= threshold)}

    precomputed = isinstance(model.kernel, Precomputed)
    width = model.kernel.num_points if precomputed else model.support_vectors.shape[1]
    shape = (*export.symbolic_shape("b"), width)
    dtype = model.coefficients.dtype
    return export.export(jax.jit(score), platforms=tuple(platforms))(
        jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct((), dtype)
    )


def _kernel_expansion(model: OCSVM, x: Float[Array, "b d"]) -> Float[Array, " b"]:
    """The kernel expansion for a symbolic b, by which `kernel_sum` could not choose its tiles."""
    if isinstance(model.kernel, Precomputed):
        return model.kernel_expansion(x)
    m = model.support_vectors.shape[0]
    tiles = [slice(first, first + _CENTRES) for first in range(0, m, _CENTRES)]
    sums = [
        jnp.matmul(
            model.coefficients[tile],
            gram(model.kernel, model.support_vectors[tile], x),
            precision=lax.Precision.HIGHEST,
        )
        for tile in tiles
    ]
    return jnp.sum(jnp.stack(sums), axis=0)


def save_exported(exported: export.Exported, path: str | os.PathLike) -> None:
    """Writes the serialised function atomically; `jax.export.deserialize` reads it.

    Raises:
      MissingExtraError: if the package flatbuffers is not installed.
    """
    extras.load("flatbuffers", "ocsvm_jax.export.save_exported", "export")
    content = exported.serialize()
    with whole_file(path) as file:
        file.write(content)
