"""Training step and encoder of the digit autoencoder: this library, plain XLA, PyTorch.

    python benchmarks/autoencoder_step.py [--rounds=15]

One step is forward, mean squared error, backward and Adam, in float32 with data on the device.
PyTorch runs eagerly, as its users run it; without PyTorch its rows are left out. The contestants
take turns and the table gives medians. Compare ratios: times depend on the load of the machine.
"""

import argparse
import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ocsvm_jax.networks import Autoencoder
from ocsvm_jax.networks.forms import Form

try:
    torch: Any = importlib.import_module("torch")
except ImportError:
    torch = None

BATCH, SCAN_STEPS, ENCODED, CHUNK = 100, 20, 10_000, 1_000


class Contestant(NamedTuple):
    """A compiled function of no arguments that waits for its result."""

    name: str
    call: Callable[[], object]
    units: int  # training steps per call
    compile_seconds: float


def training_step(form: Form, images: jax.Array, key: jax.Array) -> tuple[Callable, Any]:
    """A training step `(state, images) -> (state, loss)` of one model, and its first state."""
    model, optimizer = Autoencoder(conv=form), optax.adam(1e-3)

    def step(state, x):
        params, statistics, moments = state

        def loss(params):
            variables = {"params": params, "batch_stats": statistics}
            (_, x_hat), new = model.apply(variables, x, train=True, mutable=["batch_stats"])
            return jnp.mean(jnp.square(x - x_hat)), new["batch_stats"]

        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), statistics, moments), value

    variables = model.init(key, images)
    return step, (
        variables["params"],
        variables["batch_stats"],
        optimizer.init(variables["params"]),
    )


def train_contestants(form: Form, images: jax.Array) -> list[Contestant]:
    """The training step in JAX, as one call and as `SCAN_STEPS` steps of a `jax.lax.scan`."""
    step, state = training_step(form, images, jax.random.key(0))

    def scan(state, xs):
        return jax.lax.scan(step, state, xs)

    name = f"JAX, `conv={form!r}`"
    batches = jnp.stack([images] * SCAN_STEPS)
    return [
        compiled(f"{name}, one jitted call per step", step, (state, images)),
        compiled(f"{name}, {SCAN_STEPS} steps in a scan", scan, (state, batches), SCAN_STEPS),
    ]


def encode_contestant(form: Form, images: jax.Array) -> Contestant:
    """Inference of the encoder over many images, chunk by chunk."""
    model = Autoencoder(conv=form)
    variables = model.init(jax.random.key(0), images[:1])

    def encode(variables, images):
        chunks = images.reshape(-1, CHUNK, 28, 28, 1)
        return jax.lax.map(lambda x: model.apply(variables, x, method="encode"), chunks)

    return compiled(f"JAX, `conv={form!r}`", encode, (variables, images))


def compiled(name: str, function: Callable, arguments: tuple, units: int = 1) -> Contestant:
    start = time.perf_counter()
    executable = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    return Contestant(name, lambda: jax.block_until_ready(executable(*arguments)), units, seconds)


def torch_contestants(images: np.ndarray, many: np.ndarray) -> tuple[Contestant, Contestant]:
    """The same network, loss and optimiser in PyTorch: the step, and the encoder."""
    nn = torch.nn
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 4, 5, padding=2, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU()),
        nn.MaxPool2d(2),
        *(nn.Conv2d(4, 8, 5, padding=2, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(392, 32)),
    )
    decoder = nn.Sequential(
        *(nn.Linear(32, 392), nn.Unflatten(1, (8, 7, 7)), nn.Upsample(scale_factor=2)),
        *(nn.ConvTranspose2d(8, 8, 5, padding=2, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU()),
        nn.Upsample(scale_factor=2),
        *(nn.ConvTranspose2d(8, 4, 5, padding=2, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU()),
        *(nn.ConvTranspose2d(4, 1, 5, padding=2), nn.Sigmoid()),
    )
    network = nn.Sequential(encoder, decoder)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    chunks = torch.from_numpy(many.transpose(0, 3, 1, 2).copy()).split(CHUNK)

    def step():
        network.train()
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(x), x)
        loss.backward()
        optimizer.step()

    def encode():
        network.eval()
        with torch.inference_mode():
            return torch.cat([encoder(chunk) for chunk in chunks])

    return Contestant("PyTorch", step, 1, 0.0), Contestant("PyTorch", encode, 1, 0.0)


def measure(contestants: list[Contestant], rounds: int, calls: int) -> list[list[float]]:
    """Milliseconds per unit of every contestant in every round, after one warm-up call."""
    times: list[list[float]] = [[] for _ in contestants]
    for contestant in contestants:
        contestant.call()
    for _ in range(rounds):
        for contestant, record in zip(contestants, times, strict=True):
            repeats = max(1, calls // contestant.units)
            start = time.perf_counter()
            for _ in range(repeats):
                contestant.call()
            seconds = time.perf_counter() - start
            record.append(1e3 * seconds / (repeats * contestant.units))
    return times


def table(title: str, contestants: list[Contestant], times: list[list[float]]) -> str:
    """Markdown; ratios are medians over the rounds of time / time of the last contestant."""
    lines = [f"| {title} | ratio | median ms | compile s |", "|---|---|---|---|"]
    for contestant, record in zip(contestants, times, strict=True):
        ratio = statistics.median(a / b for a, b in zip(record, times[-1], strict=True))
        compile_time = f"{contestant.compile_seconds:.1f}" if contestant.compile_seconds else "-"
        lines.append(
            f"| {contestant.name} | {ratio:.2f} | {statistics.median(record):.1f} "
            f"| {compile_time} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Processor, cores and versions, in one line."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    versions = f"jax {jax.__version__}, flax {flax.__version__}, optax {optax.__version__}"
    peer = "PyTorch not installed: skipped" if torch is None else f"torch {torch.__version__}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0].device_kind
    return f"{model}, {cores} cores, JAX on {device}; {versions}, {peer}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds

    rng = np.random.default_rng(0)
    images = rng.random((BATCH, 28, 28, 1), dtype=np.float32)
    many = rng.random((ENCODED, 28, 28, 1), dtype=np.float32)
    steps, encoders = [], []
    if torch is not None:
        step, encode = torch_contestants(images, many)
        steps.append(step)
        encoders.append(encode)
    forms: tuple[Form, ...] = ("lax", "auto")
    for form in forms:
        steps += train_contestants(form, jnp.asarray(images))
        encoders.append(encode_contestant(form, jnp.asarray(many)))

    print(machine(), end="\n\n")
    print(table(f"training step, batch {BATCH}", steps, measure(steps, rounds, calls=10)))
    print()
    print(table(f"encode {ENCODED:,} images", encoders, measure(encoders, rounds, calls=1)))


if __name__ == "__main__":
    main()
