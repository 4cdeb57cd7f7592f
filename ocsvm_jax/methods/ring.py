"""The ring buffer of the one-class SVMs of the last steps, from which OgAE scores."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ocsvm_jax.arrays.packing import Packed, packed
from ocsvm_jax.guidance import GuidanceAux
from ocsvm_jax.kernels import Kernel, gram, rbf
from ocsvm_jax.methods.base import Score, State
from ocsvm_jax.methods.noise import next_noise


class Memory(NamedTuple):
    """Ring buffer of the one-class SVMs of the last M steps.

    Attributes:
      entries: a `GuidanceAux` whose arrays have a leading axis of M; step i is at i % M. Between
        `pack` and `unpack` a `Packed`.
      steps: () total number of steps taken.
      noise: key data for the next step of a method that draws, see `noise`; () for others.
    """

    entries: Any
    steps: Int[Array, ""]
    noise: Any = ()


def empty(record: GuidanceAux, size: int, noise: Any = ()) -> Memory:
    """A ring for `size` records of this type: arrays, or their shapes and dtypes."""
    zeros = jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), record)
    return Memory(zeros, jnp.int32(0), noise)


def remember(memory: Memory, record: GuidanceAux) -> Memory:
    """The ring after another step."""
    new = packed(record) if isinstance(memory.entries, Packed) else record
    size = jax.tree.leaves(memory.entries)[0].shape[0]
    slot = memory.steps % size
    entries = jax.tree.map(lambda kept, entry: kept.at[slot].set(entry), memory.entries, new)
    noise = memory.noise if isinstance(memory.noise, tuple) else next_noise(memory.noise)
    return Memory(entries, memory.steps + 1, noise)


def pack(state: State) -> State:
    """The state with a ring whose slots are few vectors, see `Method.pack`."""
    entries = packed(state.memory.entries, leading=1)
    return state._replace(memory=state.memory._replace(entries=entries))


def unpack(state: State) -> State:
    """The state with the ring as it is stored."""
    entries = state.memory.entries.unpacked()
    return state._replace(memory=state.memory._replace(entries=entries))


def last_m_score(memory: Memory, z: Float[Array, "b d"], kernel: Kernel | None = None) -> Score:
    """Minus the mean decision function of the stored one-class SVMs.

    Latents are standardised by the statistics of each stored support half (the paper's score
    without a second fit). Slots that are still empty do not count. The kernel is the RBF kernel of
    the stored gamma, unless another one is given.
    """

    def expansion(entry: GuidanceAux) -> Float[Array, " b"]:
        scaled = (z - entry.mean[None, :]) / entry.std[None, :]
        K = gram(rbf(entry.gamma) if kernel is None else kernel, scaled, entry.z_sv)
        return jnp.matmul(K, entry.solution.alpha, precision=jax.lax.Precision.HIGHEST)

    size = memory.entries.std.shape[0]
    # An empty slot is all zero: replace its std, which is a divisor.
    filled = jnp.arange(size, dtype=memory.steps.dtype) < memory.steps
    entries = memory.entries._replace(std=jnp.where(filled[:, None], memory.entries.std, 1))
    sums = jax.lax.map(expansion, entries)
    share = filled.astype(z.dtype) / jnp.maximum(jnp.sum(filled, dtype=z.dtype), 1)
    values = -jnp.sum(jnp.where(filled[:, None], sums, 0) * share[:, None], axis=0)
    return Score(values, jnp.sum(entries.solution.rho * share))
