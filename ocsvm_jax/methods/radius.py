"""How the radius R of a soft boundary moves: as a weight of its own, or to a quantile.

The loss R^2 + 1/nu * mean(max(0, d - R^2)) of squared distances d is smallest in R where a share nu
of the distances lies outside: at their (1 - nu)-quantile.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.methods.arguments import Number

Distances = Float[Array, " b"]
Scalar = Float[Array, ""]

_FIRST = 0.1


class Radius(NamedTuple):
    """A rule for R^2. Without any of these functions R is 0, and all steps are the network's.

    Attributes:
      first: R when the centre is set.
      init: `init(R^2) -> moving`, what the rule remembers between steps.
      move: `move(R^2, moving, distances, epoch) -> (R^2, moving)`, after each step past
        pretraining, with the squared distances before it.
      its_turn: `its_turn(moving) -> ()`, whether the step is the radius's: the network then holds
        still.
    """

    first: float = 0.0
    init: Callable[[Scalar], Any] = lambda squared: ()
    move: Callable[..., tuple[Scalar, Any]] = lambda squared, moving, distances, epoch: (
        squared,
        moving,
    )
    its_turn: Callable[[Any], Bool[Array, ""]] | None = None


FIXED = Radius()  # of a hard boundary


class Turns(NamedTuple):
    """What a trained radius remembers.

    Attributes:
      steps: () steps past pretraining, the network's and the radius's.
      opt_state: state of the radius's optimizer.
    """

    steps: Int[Array, ""]
    opt_state: Any


def soft_boundary(distances: Distances, squared_radius: Scalar, nu: Number) -> Scalar:
    """R^2 + 1/nu * mean(max(0, d - R^2)): Ruff et al., ICML 2018, equation (3)."""
    return squared_radius + jnp.mean(jnp.maximum(distances - squared_radius, 0)) / nu


def trained(optimizer: optax.GradientTransformation, nu: Number) -> Radius:
    """R as a weight that is trained in turns with the network, as in the paper's experiments.

    The turns change with every step: the first is the network's, with R held; the second is R's,
    by the derivative of the same loss in R, with the network held; and so on. Of the steps of an
    epoch the network therefore takes half. R starts at 0.1, as far as the centre is from 0 in each
    dimension at least. It would stay at 0, where the derivative is 0; and from above the distances,
    where no image draws the network, it would take long to come down.

    Args:
      optimizer: that of the network; R has a state of its own.
      nu: in (0, 1]; may be traced.
    """

    def its_turn(moving: Turns) -> Bool[Array, ""]:
        return moving.steps % 2 == 1

    def move(
        squared: Scalar, moving: Turns, distances: Distances, epoch: Array
    ) -> tuple[Scalar, Turns]:
        del epoch
        # The loss is even in R, so the sign that the root forgets does not matter.
        radius = jnp.sqrt(squared)
        gradient = jax.grad(lambda r: soft_boundary(distances, r**2, nu))(radius)
        updates, opt_state = optimizer.update(gradient, moving.opt_state, radius)
        moved: Any = optax.apply_updates(radius, updates)
        new = (moved**2, opt_state)
        squared, opt_state = jax.tree.map(
            lambda a, b: jnp.where(its_turn(moving), a, b), new, (squared, moving.opt_state)
        )
        return squared, Turns(moving.steps + 1, opt_state)

    return Radius(
        first=_FIRST,
        init=lambda squared: Turns(jnp.int32(0), optimizer.init(squared)),
        move=move,
        its_turn=its_turn,
    )


def quantile(nu: Number, first_epoch: int) -> Radius:
    """R^2 as the (1 - nu)-quantile of the batch after each step, as in the code of Ruff et al.

    Args:
      nu: in (0, 1]; may be traced.
      first_epoch: R stays 0 before this epoch, so that the boundary is not set while distances
        still fall steeply.
    """

    def move(
        squared: Scalar, moving: tuple[()], distances: Distances, epoch: Array
    ) -> tuple[Scalar, tuple[()]]:
        found = jnp.quantile(distances, jnp.asarray(1 - nu, distances.dtype))
        return jnp.where(epoch >= first_epoch, found, squared), moving

    return Radius(move=move)
