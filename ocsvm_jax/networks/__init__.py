"""Flax networks, one architecture per file."""

from ocsvm_jax.networks.autoencoder import Autoencoder, Decoder, Encoder
from ocsvm_jax.networks.fitting import default_latent_dim, default_network

__all__ = ["Autoencoder", "Decoder", "Encoder", "default_latent_dim", "default_network"]
