"""Soft-boundary Deep SVDD: Ruff et al., Deep One-Class Classification, ICML 2018, equation (3)."""

from functools import partial

import optax

from ocsvm_jax.methods import radius as radii
from ocsvm_jax.methods.arguments import Number, check_nu, one_of
from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.hypersphere import pretraining_epochs, sphere_method
from ocsvm_jax.networks.pair import Network


def soft_deep_svdd(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    pretrain: float = 0.5,
    nu: Number = 0.03,
    radius: str = "trained",
) -> Method:
    """Minimises R^2 + 1/nu * mean(max(0, |z - c|^2 - R^2)); scores "distance", |z - c|^2.

    Network and radius are updated in turn. The radius is the same for all images and is left out
    of the score.

    Args:
      network: encoder and decoder, without biases.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      pretrain: share of the epochs, in [0, 1), that train the autoencoder first; 0 for none.
      nu: in (0, 1]; may be traced.
      radius: "trained", R is a weight: every second step after pretraining moves R by the optimizer
        while the network holds still, the others move the network while R does, as in the paper's
        experiments (`radius.trained`). Or "quantile", as in the code of Ruff et al.: every step
        moves the network, and R^2 is then set to the (1 - nu)-quantile of the batch's squared
        distances; it stays 0 during the first half of the epochs after pretraining, which early
        stopping ignores (`radius.quantile`).

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    check_nu("nu", nu)
    one_of(("trained", "quantile"))("radius", radius)
    before = pretraining_epochs(pretrain, num_epochs)
    warm_up = before if radius == "trained" else before + (num_epochs - before) // 2
    rule = radii.trained(optimizer, nu) if radius == "trained" else radii.quantile(nu, warm_up)
    return sphere_method(
        network,
        optimizer,
        partial(radii.soft_boundary, nu=nu),
        num_epochs=num_epochs,
        pretrain=pretrain,
        radius=rule,
        warm_up=warm_up,
    )
