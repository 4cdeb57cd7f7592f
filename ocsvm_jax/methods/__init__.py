"""The registered methods: name -> `Recipe`, which builds the method."""

from ocsvm_jax.methods.ae import ae
from ocsvm_jax.methods.base import Method, Recipe
from ocsvm_jax.methods.deep_svdd import deep_svdd
from ocsvm_jax.methods.dspsvdd import dspsvdd
from ocsvm_jax.methods.dvaesvdd import dvaesvdd
from ocsvm_jax.methods.edited_ogae import edited_ogae
from ocsvm_jax.methods.ogae import ogae
from ocsvm_jax.methods.sae import sae
from ocsvm_jax.methods.soft_deep_svdd import soft_deep_svdd
from ocsvm_jax.methods.turned_ogae import turned_ogae
from ocsvm_jax.methods.vae import vae

METHODS: dict[str, Recipe] = {
    "ae": Recipe(ae),
    "vae": Recipe(vae, heads=2, traced=("kl_weight",)),
    "sae": Recipe(sae, traced=("similarity_weight",)),
    "ogae": Recipe(ogae, traced=("guidance_weight", "nu", "gamma", "betas", "betas_second")),
    "turned_ogae": Recipe(
        turned_ogae,
        traced=("guidance_weight", "turned_weight", "nu", "gamma", "betas", "betas_second"),
    ),
    "edited_ogae": Recipe(edited_ogae, traced=("guidance_weight", "edited_weight", "nu", "gamma")),
    "deep_svdd": Recipe(deep_svdd, bias=False),
    "soft_deep_svdd": Recipe(soft_deep_svdd, bias=False, traced=("nu",)),
    "dspsvdd": Recipe(dspsvdd, bias=False, traced=("reconstruction_weight",)),
    "dvaesvdd": Recipe(dvaesvdd, heads=2, bias=False, traced=("vae_weight", "kl_weight")),
}

__all__ = ["METHODS", "Method", "Recipe"]
