"""AE and OgAE on MNIST-C over several seeds, hyperparameters chosen on validation, test reported.

    python benchmarks/mnistc_seeds.py --data_dir=PATH_TO_MNIST_C [--runs=runs/seeds] [--seeds=0,1,2,3,4]

Trains each candidate of `CANDIDATES` for each seed with train.py's own main (a run that is finished is
not repeated), fits each final one-class SVM of `FINALS` to each, and chooses, per method, by the mean
validation AUROC of its one-class SVM score over the seeds. Writes results.json and results.md.
"""

import argparse
import importlib
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import eval as evaluation  # noqa: E402
import train  # noqa: E402
from configs import mnistc  # noqa: E402
from ocsvm_jax import data, metrics, provenance, results, scoring  # noqa: E402

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
    for nu, gamma, standardize in itertools.product((0.03,), (0.01, 0.1, 0.3, 1.0), (True, False))
]


def card(changes: dict, seed: int, data_dir: str):
    """configs/mnistc.py with changes."""
    config = importlib.reload(mnistc).get_config()
    with config.unlocked():
        config.update_from_flattened_dict(changes | {"seed": seed, "data.dir": data_dir})
    return config


def point_metrics(scores: dict, split: str, name: str) -> dict[str, float]:
    """AUROC, AUPR and AUROC30 of one score on one split."""
    labels, values = scores[f"{split}_labels"], scores[f"{split}_{name}"]
    functions = (metrics.auroc, metrics.aupr, metrics.auroc30)
    return {m: float(f(labels, values)) for m, f in zip(metrics.METRICS, functions, strict=True)}


def judge(workdir: Path, dataset: data.Dataset, train_images: np.ndarray) -> dict:
    """Validation and test metrics of a finished run: its own scores, and every final of FINALS."""
    _, method, state, _ = evaluation.load(workdir)
    own = dict(np.load(workdir / "scores.npz"))
    names = [k.removeprefix("val_") for k in own if k.startswith("val_")]
    out = {
        name: {split: point_metrics(own, split, name) for split in results.SPLITS}
        for name in names
        if own[f"val_{name}"].dtype.kind == "f"
    }
    for final in FINALS:
        ocsvm, _ = scoring.fit_final(method, state, train_images, SimpleNamespace(**final))
        scores = results.score_splits(method, state, ocsvm, dataset)
        out["ocsvm " + json.dumps(final)] = {
            split: point_metrics(scores, split, "ocsvm") for split in results.SPLITS
        }
    return out


def main() -> None:
    """Trains what is missing, judges all, writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--runs", default="runs/seeds")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--candidates", default=",".join(CANDIDATES))
    arguments = parser.parse_args()
    runs = Path(arguments.runs)
    seeds = [int(s) for s in arguments.seeds.split(",")]
    for seed, name in itertools.product(seeds, arguments.candidates.split(",")):
        workdir = runs / f"{name.replace(' ', '-')}-seed{seed}"
        judged = workdir / "judged.json"
        if judged.exists():
            continue
        config = card(CANDIDATES[name], seed, arguments.data_dir)
        train.main(config, workdir)
        dataset = data.load(**config.data.to_dict())
        images, _ = data.holdout(dataset.train, config.train.held_out, seed)
        judged.write_text(json.dumps(judge(workdir, dataset, images.images), indent=1))
    print(provenance.facts())


if __name__ == "__main__":
    main()
