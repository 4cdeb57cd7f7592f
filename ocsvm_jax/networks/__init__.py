"""Flax networks, one architecture per file."""

from ocsvm_jax.networks.autoencoder import Autoencoder, Decoder, Encoder

__all__ = ["Autoencoder", "Decoder", "Encoder"]
