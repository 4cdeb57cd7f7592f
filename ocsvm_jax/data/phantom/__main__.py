"""Writes a synthetic population: `python -m ocsvm_jax.data.phantom --out DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ocsvm_jax.data.phantom.cohorts import PROFILES
from ocsvm_jax.data.phantom.generate import generate
from ocsvm_jax.extras import MissingExtraError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ocsvm_jax.data.phantom",
        description="Writes a synthetic population of T1 brain slices as NIfTI files. "
        "Continues where an earlier call was stopped.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--profile", default="full", help=f"{' or '.join(PROFILES)}, default full")
    parser.add_argument("--seed", type=int, default=0, help="seed of the population, default 0")
    parser.add_argument(
        "--lesions",
        type=Path,
        help="folder of NIfTI lesion masks in MNI space to use; images named T1 are ignored",
    )
    parser.add_argument("--workers", type=int, help="number of processes, chosen by default")
    options = parser.parse_args(arguments)
    try:
        description = generate(
            options.out,
            profile=options.profile,
            seed=options.seed,
            lesion_masks=options.lesions,
            workers=options.workers,
        )
    except (ValueError, MissingExtraError) as error:
        print(error, file=sys.stderr)
        return 2
    shares = ", ".join(f"{kind} {share:.4f}" for kind, share in description["prevalence"].items())
    print(f"{description['subjects']} subjects in {options.out}; prevalence: {shares}")
    print(f"SHA-256 {description['sha256']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
