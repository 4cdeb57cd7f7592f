"""Results of a made-up brain experiment, for the tests of its tables and its report."""

import numpy as np

from ocsvm_jax.experiments.brain.measures import KEYS

FACTS = {"machine": "two cores", "versions": "numpy 2", "commit": "abc-dirty"}
COHORTS = {"train": 5, "valid": 2, "near_controls": 3, "near_wmh": 4, "near_tumour": 3}
KINDS = ("wmh", "tumour")


def patients(generator, count, **change):
    """A value for each measure and patient, with and without post-processing."""
    count = len(next(iter(change.values()), range(count)))
    raw = {name: generator.uniform(0.1, 0.9, count).tolist() for name in KEYS} | change
    return {"raw": raw, "post-processed": {name: values[::-1] for name, values in raw.items()}}


def score(generator, arms=("near",), **change):
    """One score of one run; `change` holds values of measures of the patients of all cohorts."""
    wmh, tumour = COHORTS["near_wmh"], COHORTS["near_tumour"]
    sizes = {"controls": COHORTS["near_controls"], "wmh": wmh, "tumour": tumour}
    return {
        "thresholds": {"raw": 0.6, "post-processed": 0.5},
        "patients": {
            f"{arm}_{kind}": patients(generator, sizes[kind], **change)
            for arm in arms
            for kind in KINDS
        },
        "images": {
            f"{arm}_{name}": generator.normal(size=size).tolist()
            for arm in arms
            for name, size in sizes.items()
        },
    }


def run(method, seed=0, scores=None, epochs=0, **change):
    """A run; with epochs, one that trained something."""
    generator = np.random.default_rng([seed, *method.encode()])
    history = [
        {"epoch": i, "loss": 1 / i, "valid_loss": (i - 2.0) ** 2 + 0.5, "patches_per_s": 9.0}
        for i in range(1, epochs + 1)
    ]
    return {
        "method": method,
        "seed": seed,
        "history": history,
        "facts": FACTS,
        "scores": {name: score(generator, **change) for name in scores or ["score"]},
        "seconds": {"training": 61.25, "maps": 2.0, "judging": 3.0},
    }


def results(runs, arms=("near",), controls="controls", synthetic=True, **data):
    """The content of `results.json`."""
    made = {"scanners": ["A", "B"], "prevalence": 0.25, "sha256": "c0ffee" * 10}
    population = {"profile": "ci", "seed": 7, "recipe": 1, "lesion_masks": None}
    population |= {"sha256": "5eed" * 16, "cohorts": dict.fromkeys(COHORTS, made)}
    card = {"train": "train", "held_out": "valid", "arms": list(arms), "controls": controls}
    card |= {"patients": list(KINDS), "exclude": "ventricles.nii.gz"} | data
    return {
        "command": "python train.py --config=configs/<script>brain.py",
        "config": {
            "data": card,
            "train": {"patience": 0},
            "eval": {"resamples": 50, "median": 3, "erosion": 2},
            "seeds": [0],
        },
        "facts": FACTS,
        "data": {
            "subjects": dict(COHORTS),
            "locations": 1000,
            "slices": 1,
            "synthetic": population if synthetic else None,
        },
        "runs": runs,
        "wall_seconds": 1234.5,
    }
