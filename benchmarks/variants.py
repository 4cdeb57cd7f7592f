"""Variants of Table I on validation images only: network conventions, and other losses.

    python benchmarks/variants.py --data_dir=PATH_TO_MNIST_C --workdir=DIR \
        [--variants="NAME;NAME"] [--seeds=0,1,2] [--epochs=20]

Trains every variant on every seed with configs/mnistc.py and the changes listed for it below, and
prints a Markdown table of validation metrics, mean +- sd over the seeds; no test image is scored.
Finished runs are kept in DIR and not repeated. For the final one-class SVMs of
configs/mnistc_table1.py, one line takes the SVM with the highest mean AUROC, another the mean rank
over all of them. "contrast" is the score of Turned OgAE. The last column is an ensemble: the mean
rank over the seeds.

All variants train for the same number of epochs, so a larger batch takes fewer steps. Turned OgAE
encodes turned images of one half; with several splits, of both halves.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configs import mnistc, mnistc_table1  # noqa: E402
from ocsvm_jax import data  # noqa: E402
from ocsvm_jax.evaluation import metrics  # noqa: E402
from ocsvm_jax.evaluation.final import family, finals_of  # noqa: E402
from ocsvm_jax.evaluation.scores import score_sets  # noqa: E402
from ocsvm_jax.experiments.method_fields import built, settings_of  # noqa: E402
from ocsvm_jax.experiments.table import judge, testing  # noqa: E402
from ocsvm_jax.files import whole_file  # noqa: E402
from ocsvm_jax.guidance import guidance_loss, misfit, remembered, solve_halves  # noqa: E402
from ocsvm_jax.methods import METHODS  # noqa: E402
from ocsvm_jax.methods.base import Forward, Method, decoded, encoded, squared_error  # noqa: E402
from ocsvm_jax.methods.ogae import guided_method, phases_of  # noqa: E402
from ocsvm_jax.methods.separation import log_odds_of_anomalies  # noqa: E402
from ocsvm_jax.methods.turning import half_turn, stretch  # noqa: E402
from ocsvm_jax.networks import Decoder, Encoder  # noqa: E402
from ocsvm_jax.networks.pair import Network, Pair, from_flax  # noqa: E402
from ocsvm_jax.reports import provenance  # noqa: E402
from ocsvm_jax.training import population  # noqa: E402

CARD: Any = mnistc.get_config()
# Keras's defaults where they are not PyTorch's, which the networks of this library follow.
MOMENTUM = {"momentum": 0.99}
GLOROT = {
    "kernel_init": nn.initializers.glorot_uniform(),
    "bias_init": nn.initializers.zeros_init(),
}
SLOPE = {"negative_slope": 0.3}
KERAS = MOMENTUM | GLOROT | SLOPE | {"epsilon": 1e-3}
# The settings that the paper's authors name as their best of this experiment.
AUTHORS = {"guidance_weight": 1e-2, "gamma": 1e-2, "standardize": False}
TURNED = {"guidance_weight": 0.0}


class Variant(NamedTuple):
    """One line of the table.

    Attributes:
      method: name of a registered method.
      scores: what it is judged by.
      settings: of the method, where they are not the card's.
      train: of the training, likewise.
      conventions: of the network, see `ocsvm_jax.networks.autoencoder.Network`.
      splits: how often each batch is split in two halves, for losses of their own.
      learnt: which of "gamma", "nu" are trained with the weights, by all of the gradient: the betas
        weigh the routes through the latents alone.
      frozen: batch norms keep the statistics of their first day, mean 0 and variance 1.
    """

    method: str
    scores: tuple[str, ...]
    settings: Mapping[str, Any] = {}
    train: Mapping[str, Any] = {}
    conventions: Mapping[str, Any] = {}
    splits: int = 1
    learnt: tuple[str, ...] = ()
    frozen: bool = False


def _larger(batch: int, settings: Mapping[str, Any], guidance_weight: float) -> dict[str, Any]:
    # The guidance is n_sv times a sum over as many images: it grows with the square of the batch.
    factor = batch / CARD.train.batch_size
    return {
        "settings": {**settings, "guidance_weight": guidance_weight / factor**2},
        "train": {"batch_size": batch, "learning_rate": CARD.train.learning_rate * factor**0.5},
    }


_AE, _OGAE, _TURNED = ("reconstruction", "ocsvm"), ("ocsvm", "last_m"), ("contrast+error",)
_DISTANCE = ("distance",)
VARIANTS: dict[str, Variant] = {
    "AE": Variant("ae", _AE),
    "AE, momentum .99": Variant("ae", _AE, conventions=MOMENTUM),
    "AE, Glorot": Variant("ae", _AE, conventions=GLOROT),
    "AE, slope .3": Variant("ae", _AE, conventions=SLOPE),
    "AE, Keras": Variant("ae", _AE, conventions=KERAS),
    "AE, no early stopping": Variant("ae", _AE, train={"patience": 0}),
    "OgAE": Variant("ogae", _OGAE),
    "OgAE, Keras": Variant("ogae", _OGAE, conventions=KERAS),
    "OgAE, no early stopping": Variant("ogae", _OGAE, train={"patience": 0}),
    "OgAE, authors": Variant("ogae", _OGAE, AUTHORS),
    "OgAE, authors, Keras": Variant("ogae", _OGAE, AUTHORS, conventions=KERAS),
    "OgAE, authors, no early stopping": Variant("ogae", _OGAE, AUTHORS, {"patience": 0}),
    # The authors' Keras code calls encoder and decoder of this one outside of the model's call,
    # where a batch norm takes its running statistics and does not update them. What else differs
    # there is left out: the centre is that of the last batch.
    "DVAESVDD": Variant("dvaesvdd", _DISTANCE, {"vae_weight": 10.0}),
    "DVAESVDD, frozen": Variant("dvaesvdd", _DISTANCE, {"vae_weight": 10.0}, frozen=True),
    "DVAESVDD, authors' loss": Variant(
        "dvaesvdd",
        _DISTANCE,
        {"vae_weight": 0.1, "kl_weight": 1.0},
        conventions=KERAS,
        frozen=True,
    ),
    "OgAE, 2 splits": Variant("ogae", _OGAE, splits=2),
    "OgAE, 4 splits": Variant("ogae", _OGAE, splits=4),
    "OgAE, batch 400": Variant("ogae", _OGAE, **_larger(400, {}, 1e-3)),
    "OgAE, batch 1000": Variant("ogae", _OGAE, **_larger(1000, {}, 1e-3)),
    "OgAE, learnt gamma": Variant("ogae", _OGAE, learnt=("gamma",)),
    "OgAE, learnt gamma and nu": Variant("ogae", _OGAE, learnt=("gamma", "nu")),
    "Turned": Variant("turned_ogae", _TURNED, TURNED),
    "Turned, 2 splits": Variant("turned_ogae", _TURNED, TURNED, splits=2),
    "Turned, batch 400": Variant("turned_ogae", _TURNED, **_larger(400, TURNED, 0.0)),
    "Turned, batch 1000": Variant("turned_ogae", _TURNED, **_larger(1000, TURNED, 0.0)),
    "Turned, learnt gamma": Variant("turned_ogae", _TURNED, TURNED, learnt=("gamma",)),
    "Turned, lambda_T 1": Variant("turned_ogae", _TURNED, TURNED | {"turned_weight": 1.0}),
}


def method_of(variant: Variant, settings: Mapping[str, Any], rate: float) -> Method:
    """The method of a variant, on its network."""
    recipe = METHODS[variant.method]
    encoder = Encoder(recipe.heads * settings["latent_dim"], recipe.bias, **variant.conventions)
    network = Network(from_flax(encoder), from_flax(Decoder(recipe.bias, **variant.conventions)))
    if variant.frozen:
        network = Network(*map(_frozen, network))
    optimizer = optax.adam(rate)
    if variant.splits == 1 and not variant.learnt:
        return built(recipe, network, optimizer, settings)
    turned = variant.method == "turned_ogae"
    return _split_method(variant, network, optimizer, SimpleNamespace(**settings), turned)


def _frozen(pair: Pair) -> Pair:
    return Pair(pair.init, lambda params, stats, x, train: pair.apply(params, stats, x, False))


def _split_method(
    variant: Variant, network: Network, optimizer: Any, settings: Any, turned: bool
) -> Method:
    """`ogae` or `turned_ogae` with several splits of each batch, or numbers that are learnt."""
    network = Network(_with_numbers(network.encoder, settings, turned), network.decoder)
    prepared: Callable[..., Any] = stretch if turned else lambda x: x

    schedule = (settings.schedule, settings.betas, settings.betas_second)
    phases = phases_of(settings.num_epochs, *schedule)

    def objective(params, stats, memory, images, epoch, train):
        del memory
        betas = phases.betas(epoch)
        images = prepared(images)
        numbers = params["encoder"]["numbers"]
        gamma = jnp.exp(numbers["gamma"]) if "gamma" in variant.learnt else settings.gamma
        nu = jax.nn.sigmoid(numbers["nu"]) if "nu" in variant.learnt else settings.nu
        options = {name: getattr(settings, name) for name in ("standardize", "differentiate_dual")}
        arguments: dict[str, Any] = {"gamma": gamma, "nu": nu, **options}
        size = images.shape[0]
        # Of one split, the half whose images are turned is known.
        half = images if variant.splits > 1 else images[size // 2 :]
        every = jnp.concatenate([images, half_turn(half)]) if turned else images
        latents, encoder_stats = encoded(network, params, stats, every, train)
        z, z_turned = latents[:size], latents[size:]
        x_hat, decoder_stats = decoded(network, params, stats, z, train)
        reconstruction = jnp.mean(squared_error(images, x_hat))

        def of_split(first):
            if not turned:
                return guidance_loss(jnp.roll(z, -first, 0), betas=betas, **arguments)
            halves = solve_halves(jnp.roll(z, -first, 0), kernel=None, betas=betas, **arguments)
            loss = log_odds_of_anomalies(halves, jnp.roll(z_turned, -first, 0)[-(size // 2) :])
            return loss, remembered(halves, misfit(halves)[1])

        firsts = jnp.arange(variant.splits) * (size // variant.splits)
        losses, records = jax.vmap(of_split)(firsts)
        weight = settings.turned_weight if turned else settings.guidance_weight
        loss = reconstruction + weight * jnp.mean(losses)
        parts = {"loss": loss, "reconstruction": reconstruction}
        parts |= {"gamma": jnp.asarray(gamma, jnp.float32)}
        parts |= {"nu": jnp.asarray(nu, jnp.float32)}
        record = jax.lax.stop_gradient(jax.tree.map(lambda leaf: leaf[0], records))
        stats = {"encoder": encoder_stats, "decoder": decoder_stats}
        return loss, Forward(stats, parts, record, z)

    target = stretch if turned else None
    return guided_method(
        network, optimizer, objective, phases, last_m=settings.last_m, target=target
    )


def _with_numbers(encoder: Pair, settings: Any, turned: bool) -> Pair:
    """The encoder with log gamma and the logit of nu beside its weights, trained if they are used.

    It stretches the images as `turned_ogae` does, which leaves those stretched already as they are.
    """

    def init(key, x):
        params, stats = encoder.init(key, x)
        nu = settings.nu
        numbers = {"gamma": jnp.log(settings.gamma), "nu": jnp.log(nu) - jnp.log1p(-nu)}
        numbers = {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()}
        return {"net": params, "numbers": numbers}, stats

    def apply(params, stats, x, train):
        return encoder.apply(params["net"], stats, stretch(x) if turned else x, train)

    return Pair(init, apply)


def described(variant: Variant, epochs: int) -> dict[str, Any]:
    """All that a variant is trained by, as JSON gives it back."""
    settings = settings_of(CARD, variant.method) | dict(variant.settings)
    what = {
        "settings": settings | {"num_epochs": epochs},
        "train": CARD.train.to_dict() | dict(variant.train),
        "conventions": sorted(variant.conventions),
        "splits": variant.splits,
        "learnt": variant.learnt,
        "frozen": variant.frozen,
    }
    return json.loads(json.dumps(what))


def run(variant: Variant, seed: int, epochs: int, images: Any, valid: Any, directory: Path) -> None:
    """Trains one model and keeps its validation scores; nothing where they are kept already.

    Raises:
      ValueError: if the directory holds scores of other settings.
    """
    what = described(variant, epochs)
    settings, card = what["settings"], what["train"]
    path = directory / "variant.json"
    if path.exists():
        if json.loads(path.read_text())["what"] != what:
            raise ValueError(f"{directory} holds a run of other settings; remove it.")
        if (directory / "scores.npz").exists():
            return
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        told = {"what": what, "commit": provenance.facts()["commit"]}
        file.write(json.dumps(told, indent=1).encode())
    program = population.Program(
        lambda traced: method_of(variant, settings, card["learning_rate"]),
        population.Plan(epochs, card["batch_size"], card["patience"], 5),
        1,
    )
    rows, held_out = data.holdout_rows(len(images), card["held_out"], seed)
    member = population.Member({}, seed, rows, held_out)
    (trained,) = population.train(program, [member], jnp.asarray(images), directory / "partial")
    if trained.diverged:
        raise ValueError(f"{directory.parent.name}, seed {seed}: the training has diverged.")
    with whole_file(directory / "history.json") as file:
        file.write(json.dumps(trained.history).encode())
    scores = _validation_scores(program.see(member, trained.state), images[rows], valid.images)
    with whole_file(directory / "scores.npz") as file:
        np.savez_compressed(file, **scores)  # pyright: ignore[reportArgumentType]
    population.forget(directory / "partial")


def _validation_scores(model: Any, train: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    card: Any = mnistc_table1.get_config()
    finals = finals_of(card.table.finals.to_dict())
    scored = score_sets(model, train, {"valid": valid}, finals)
    for what in ("collapsed", "unconverged"):
        if names := getattr(scored, what):
            print(f"{what}: {', '.join(names)}", file=sys.stderr)
    if not scored.scores:
        raise ValueError("the latents are not finite.")
    return scored.scores["valid"]


def lines(name: str, variant: Variant, directories: list[Path], labels: np.ndarray) -> list[str]:
    """The lines of one variant: of each score the best final one-class SVM, and all together."""
    runs = [dict(np.load(directory / "scores.npz")) for directory in directories]
    out = []
    for score in variant.scores:
        names = [key for key in runs[0] if family(key) == score]
        best = max(names, key=lambda key: np.mean([metrics.auroc(labels, r[key]) for r in runs]))
        out.append(line(name, best, [r[best] for r in runs], labels))
        if len(names) > 1:
            together = [testing.mean_rank([r[key] for key in names]) for r in runs]
            out.append(line(name, f"{score}, mean rank of {len(names)}", together, labels))
    return out


def line(name: str, score: str, runs: list[np.ndarray], labels: np.ndarray) -> str:
    """One line: mean and sd over the runs, each run, and the AUROC of the runs' mean rank."""
    values = np.array([list(judge.metrics_of(labels, scores).values()) for scores in runs])
    ensemble = metrics.auroc(labels, testing.mean_rank(runs))
    words = " | ".join(
        f"{mean:.3f} ± {sd:.3f}"
        for mean, sd in zip(values.mean(0), values.std(0, ddof=1), strict=True)
    )
    each = ", ".join(f"{value:.3f}" for value in values[:, 0])
    return f"| {name} | {score} | {words} | {each} | {ensemble:.3f} |"


def main() -> None:
    """Trains what is missing and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--variants", default=";".join(VARIANTS), help="names, divided by ;")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    names = [name.strip() for name in arguments.variants.split(";")]
    unknown = sorted(set(names) - set(VARIANTS))
    if unknown:
        parser.error(f"no variants are called {unknown}; there are {'; '.join(VARIANTS)}.")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    if len(seeds) < 2:
        parser.error("two seeds at least: the table is of their mean and spread.")
    dataset = data.load("mnist_c", dir=arguments.data_dir)
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    print(
        f"Validation images, {arguments.epochs} epochs, seeds {arguments.seeds}.\n\n"
        "| variant | score | AUROC | AUPR | AUROC30 | AUROC of each | ensemble |\n"
        "|---|---|---|---|---|---|---|"
    )
    for name in names:
        directories = [
            arguments.workdir / f"{arguments.epochs} epochs" / name / f"seed {seed}"
            for seed in seeds
        ]
        for seed, directory in zip(seeds, directories, strict=True):
            variant = VARIANTS[name]
            train, valid = dataset.train.images, dataset.valid
            run(variant, seed, arguments.epochs, train, valid, directory)
        for text in lines(name, VARIANTS[name], directories, dataset.valid.anomalous):
            print(text, flush=True)


if __name__ == "__main__":
    main()
