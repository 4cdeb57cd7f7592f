"""AE and OgAE on MNIST-C over several seeds, hyperparameters chosen on validation, test reported.

    python benchmarks/mnistc_seeds.py --data_dir=PATH_TO_MNIST_C [--runs=DIR] [--seeds=0,1,2,3,4]

Trains each of `CANDIDATES` for each seed with train.py's own main (a run that is finished is not
repeated), fits each final one-class SVM of `FINALS` to each, and chooses, per method, by the mean
validation AUROC of its one-class SVM score over the seeds. Writes results.json and results.md.
"""

import argparse
import importlib
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import eval as evaluation  # noqa: E402
import train  # noqa: E402
from configs import mnistc  # noqa: E402
from ocsvm_jax import data, metrics, provenance, results, scoring  # noqa: E402

Judged = dict[str, dict[str, dict[str, float]]]

# The handful of hyperparameters tried; everything else is configs/mnistc.py.
CANDIDATES = {
    "ae": {"method.name": "ae"},
    **{
        f"ogae lambda {weight:g} gamma {gamma:g}": {
            "method.name": "ogae",
            "method.guidance_weight": weight,
            "method.gamma": gamma,
        }
        for weight, gamma in itertools.product((1e-3, 1e-2), (0.01, 0.1))
    },
}
FINALS = [
    {"nu": nu, "gamma": gamma, "standardize": standardize}
    for nu, gamma, standardize in itertools.product((0.03,), (0.001, 0.01, 0.1), (True, False))
]


def card(changes: dict, seed: int, data_dir: str):
    """configs/mnistc.py with changes."""
    config = importlib.reload(mnistc).get_config()
    with config.unlocked():
        config.update_from_flattened_dict(changes | {"seed": seed, "data.dir": data_dir})
    return config


def point_metrics(labels: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """AUROC, AUPR and AUROC30 of one score."""
    functions = (metrics.auroc, metrics.aupr, metrics.auroc30)
    return {m: float(f(labels, values)) for m, f in zip(metrics.METRICS, functions, strict=True)}


def judge(workdir: Path, dataset: data.Dataset, train_images: np.ndarray) -> Judged:
    """Metrics of a finished run, {score: {split: metrics}}: its own scores, and all of FINALS."""
    _, method, state, _ = evaluation.load(workdir)
    own = dict(np.load(workdir / "scores.npz"))
    labels = {split: own[f"{split}_labels"] for split in results.SPLITS}
    out: Judged = {}
    for key, values in own.items():
        split, name = key.split("_", 1)
        if values.dtype.kind == "f":
            out.setdefault(name, {})[split] = point_metrics(labels[split], values)
    latents = {
        split: scoring.encode_images(method, state, images.images)
        for split, images in zip(results.SPLITS, (dataset.valid, dataset.test), strict=True)
    }
    for final in FINALS:
        ocsvm = scoring.fit_final(method, state, train_images, SimpleNamespace(**final))
        out[describe(final)] = {
            split: point_metrics(labels[split], -np.asarray(ocsvm.kernel_expansion(jnp.asarray(z))))
            for split, z in latents.items()
        }
    return out


def describe(final: dict) -> str:
    """A final one-class SVM in words."""
    scaling = "standardised" if final["standardize"] else "as they are"
    return f"ocsvm nu {final['nu']} gamma {final['gamma']}, latents {scaling}"


def summary(judged: list[Judged], name: str) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over seeds of each metric of one score on both splits."""
    out = {}
    for split, metric in itertools.product(results.SPLITS, metrics.METRICS):
        values = [j[name][split][metric] for j in judged]
        out[f"{split} {metric}"] = (float(np.mean(values)), float(np.std(values, ddof=1)))
    return out


def choose(all_judged: dict[str, list[Judged]], prefix: str) -> tuple[str, str]:
    """The candidate and final one-class SVM of the largest mean validation AUROC."""
    options = [
        (summary(judged, describe(final))["val AUROC"][0], name, describe(final))
        for name, judged in all_judged.items()
        if name.startswith(prefix)
        for final in FINALS
    ]
    _, name, final = max(options)
    return name, final


def table(all_judged: dict[str, list[Judged]]) -> str:
    """All candidates in Markdown, one row a score, mean and standard deviation over the seeds."""
    lines = [
        "| method | score | val AUROC | test AUROC | test AUPR | test AUROC30 |",
        "|---|---|---|---|---|---|",
    ]
    for name, judged in all_judged.items():
        for score in judged[0]:
            s = summary(judged, score)
            columns = ("val AUROC", "test AUROC", "test AUPR", "test AUROC30")
            cells = " | ".join(f"{s[c][0]:.3f} ± {s[c][1]:.3f}" for c in columns)
            lines.append(f"| {name} | {score} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing, judges all, writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--runs", default="runs/seeds")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--candidates", default=",".join(CANDIDATES))
    arguments = parser.parse_args()
    runs, names = Path(arguments.runs), str(arguments.candidates).split(",")
    seeds = [int(s) for s in arguments.seeds.split(",")]
    all_judged: dict[str, list[Judged]] = {name: [] for name in names}
    for seed, name in itertools.product(seeds, names):
        workdir = runs / f"{name.replace(' ', '-')}-seed{seed}"
        path = workdir / "judged.json"
        if not path.exists():
            config: Any = card(CANDIDATES[name], seed, arguments.data_dir)
            train.main(config, workdir)
            dataset = data.load(**config.data.to_dict())
            images, _ = data.holdout(dataset.train, config.train.held_out, seed)
            path.write_text(json.dumps(judge(workdir, dataset, images.images), indent=1))
        all_judged[name].append(json.loads(path.read_text()))
    chosen = {
        p: choose(all_judged, p) for p in ("ae", "ogae") if any(n.startswith(p) for n in names)
    }
    facts = provenance.facts() | {"seeds": arguments.seeds}
    text = table(all_judged) + "\n\n"
    text += "".join(f"Chosen for {p} on validation: {a}, {b}.\n" for p, (a, b) in chosen.items())
    text += "\n" + "; ".join(f"{k}: {v}" for k, v in facts.items()) + "\n"
    (runs / "results.md").write_text(text)
    record = {"facts": facts, "chosen": chosen, "judged": all_judged}
    (runs / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
