"""What the guidance does to the shape of standardised latents: theory and measurement.

    python benchmarks/guidance_dimensions.py [--batches=40] [--steps=300]

Gaussian latents (b = 100, d = 32, nu .03) of which every two dimensions have the same correlation:
the guidance of equation (7) against their effective number of dimensions, beside what the theory of
docs/guidance.md says. Then a linear encoder of independent Gaussian inputs that descends the
guidance alone, by Adam. Prints the tables of results/guidance_dimensions.md and draws its picture.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ocsvm_jax.guidance import guidance_loss  # noqa: E402
from ocsvm_jax.reports import figures  # noqa: E402

FIGURE = Path(__file__).parent / "results" / "guidance_dimensions.png"
B, D, NU = 100, 32, 0.03
GAMMAS = (0.1, 1 / 64, 0.01, 0.001)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9, 0.99)


def expected_kernel(gamma: float, eigenvalues: np.ndarray) -> float:
    """E exp(-gamma |x - y|^2) of independent Gaussian points with these covariance eigenvalues."""
    return float(np.prod((1 + 4 * gamma * eigenvalues) ** -0.5))


def eigenvalues(correlation: float) -> np.ndarray:
    """Of the (d, d) matrix with ones on its diagonal and the correlation elsewhere."""
    return np.array([1 + (D - 1) * correlation] + [1 - correlation] * (D - 1))


def dimensions(correlation: float) -> float:
    """(sum l)^2 / sum l^2."""
    values = eigenvalues(correlation)
    return float(np.sum(values) ** 2 / np.sum(values**2))


def batches(correlation: float, count: int) -> Float[Array, "count b d"]:
    """Gaussian latents: a common part and one of its own in each dimension."""
    own, common = jax.random.split(jax.random.key(0))
    z = jnp.sqrt(1 - correlation) * jax.random.normal(own, (count, B, D))
    return z + jnp.sqrt(correlation) * jax.random.normal(common, (count, B, 1))


@jax.jit
def mean_guidance(z: Float[Array, "count b d"], gamma: Float[Array, ""]) -> Float[Array, ""]:
    """The guidance, averaged over batches."""
    return jnp.mean(jax.vmap(lambda z: guidance_loss(z, nu=NU, gamma=gamma)[0])(z))


@partial(jax.jit, static_argnames="steps")
def descent(
    gamma: Float[Array, ""], steps: int
) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
    """Guidance and effective dimensions at each step of Adam on a linear encoder.

    Each step has new Gaussian inputs: the encoder cannot move single points, only their shape.
    """
    adam = optax.adam(0.02)
    W = jnp.eye(D)

    def step(carry: tuple, key: Array) -> tuple:
        W, state = carry
        x = jax.random.normal(key, (B, D))
        loss = lambda W: guidance_loss(x @ W, nu=NU, gamma=gamma)[0]  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(W)
        updates, state = adam.update(gradient, state, W)
        scaled = W / jnp.sqrt(jnp.sum(W**2, axis=0, keepdims=True))
        l = jnp.linalg.eigvalsh(scaled.T @ scaled)  # noqa: E741
        shape = jnp.sum(l) ** 2 / jnp.sum(l**2)
        return (optax.apply_updates(W, updates), state), (value, shape)

    keys = jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, (W, adam.init(W)), keys)[1]


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=40, help="Gaussian batches to average over")
    parser.add_argument("--steps", type=int, default=300, help="steps of the descent")
    given = parser.parse_args()
    measured = {
        gamma: [float(mean_guidance(batches(c, given.batches), gamma)) for c in CORRELATIONS]
        for gamma in GAMMAS
    }
    print("| gamma | " + " | ".join(f"{dimensions(c):.1f}" for c in CORRELATIONS) + " |")
    print("|---" * (1 + len(CORRELATIONS)) + "|")
    for gamma, row in measured.items():
        cells = [
            f"{value:.1f} ({B / 2 * (1 - expected_kernel(gamma, eigenvalues(c))):.1f})"
            for value, c in zip(row, CORRELATIONS, strict=True)
        ]
        print(f"| {gamma:.3g} | {' | '.join(cells)} |")
    descents = {gamma: descent(gamma, given.steps) for gamma in GAMMAS}
    print(
        "\n| gamma | guidance, first 20 steps | last 20 | effective dimensions, first step | last |"
    )
    print("|---|---|---|---|---|")
    for gamma, (value, shape) in descents.items():
        first, last = (f"{jnp.mean(part):.1f}" for part in (value[:20], value[-20:]))
        print(f"| {gamma:.3g} | {first} | {last} | {shape[0]:.1f} | {shape[-1]:.1f} |")
    FIGURE.write_bytes(figures.png(drawn, measured, descents))


def drawn(measured: dict, descents: dict) -> Figure:
    """Left: guidance against effective dimensions; right: the descent."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    fine = np.linspace(0, 0.999, 400)
    for gamma, (colour, line), (_, marker) in zip(
        GAMMAS, figures.LINES, figures.MARKERS, strict=False
    ):
        label = f"gamma = {gamma:.3g}"
        shapes = [dimensions(c) for c in CORRELATIONS]
        left.plot(shapes, measured[gamma], marker, color=colour, label=label)
        bound = [B / 2 * (1 - expected_kernel(gamma, eigenvalues(c))) for c in fine]
        left.plot([dimensions(c) for c in fine], bound, line, color=colour, linewidth=1)
        right.plot(descents[gamma][1], line, color=colour, label=label)
    left.set(
        xlabel="effective dimensions of 32",
        ylabel="guidance",
        title="Gaussian latents: points; 50 (1 - E k): lines",
        xscale="log",
        ylim=(0, 52),
    )
    left.set_xticks([1, 2, 4, 8, 16, 32], labels=["1", "2", "4", "8", "16", "32"])
    left.minorticks_off()
    right.set(
        xlabel="step of Adam on the guidance alone",
        ylabel="effective dimensions of 32",
        title="A linear encoder that descends the guidance",
        ylim=(0, None),
    )
    right.legend(title="in both pictures")
    return figure


if __name__ == "__main__":
    main()
