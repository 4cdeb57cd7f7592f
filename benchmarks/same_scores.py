"""Whether two commits give the same scores: every card at small scale, on data without download.

    python benchmarks/same_scores.py BEFORE [AFTER]

Runs the scripts of both commits (AFTER defaults to the current checkout) and compares all scores,
maps and results. Prints one line per run: how many numbers both commits have, how many of these
differ, the largest difference, and what only one commit has. Exits with code 1 if a number differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
_METHODS = (
    "ae",
    "vae",
    "sae",
    "ogae",
    "turned_ogae",
    "deep_svdd",
    "soft_deep_svdd",
    "dspsvdd",
    "dvaesvdd",
)
_SHORT = ("--config.train.epochs=4", "--config.eval.resamples=20")
RUNS = {
    f"digits-{name}": ("configs/digits.py", f"--config.method.name={name}", *_SHORT)
    for name in _METHODS
} | {
    "mnistc-on-digits": (
        "configs/mnistc.py",
        "--config.data.name=digits",
        "--config.train.batch_size=50",
        "--config.data.protocol=leak_free",
        *_SHORT,
    ),
    "table1-quick": ("configs/mnistc_table1.py", "--config.data.name=digits", "--config.quick"),
    "brain_quick": ("configs/brain_quick.py",),
}
# Times, machines and commits differ from run to run.
_PASSING = ("seconds", "facts", "command", "commit", "images_per_s", "patches_per_s", "config")


def main() -> None:
    """Runs both commits and compares them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="names of runs")
    parser.add_argument("--keep", type=Path, help="directory in which finished runs are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kept = given.keep or Path(temporary)
        before = _outputs(given.before, given.only, kept, Path(temporary))
        after = _outputs(given.after, given.only, kept, Path(temporary))
        differing = [_compare(name, before / name, after / name) for name in given.only]
    sys.exit(int(any(differing)))


def _outputs(commit: str | None, names: list[str], kept: Path, temporary: Path) -> Path:
    """Runs the cards at a commit, or in the current checkout; returns the folder of the runs."""
    tree = ROOT
    if commit is not None:
        tree = temporary / f"tree-{commit}"
        subprocess.run(["git", "clone", "-q", ROOT, tree], check=True)
        subprocess.run(["git", "checkout", "-q", commit], cwd=tree, check=True)
    out = kept / f"runs-{commit or 'current'}"
    for name in names:
        if (out / name / "report.html").exists():
            continue
        command = [sys.executable, "train.py", f"--config={RUNS[name][0]}", *RUNS[name][1:]]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        print(f"{commit or 'current'}: {name}", file=sys.stderr)
        subprocess.run(
            [*command, f"--workdir={out / name}"],
            cwd=tree,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return out


def _compare(name: str, before: Path, after: Path) -> bool:
    """Prints one line, or more where something differs; returns whether something does."""
    ours, theirs = dict(_numbers(after)), dict(_numbers(before))
    both = sorted(ours.keys() & theirs.keys())
    count, different, largest = 0, [], 0.0
    for key in both:
        a, b = ours[key], theirs[key]
        count += a.size
        if a.shape != b.shape:
            different.append(f"{key} (shape {b.shape}, then {a.shape})")
        elif not np.array_equal(a, b, equal_nan=True):
            change = float(np.nanmax(np.abs(a - b)))
            largest = max(largest, change)
            different.append(f"{key} ({change:.1e})")
    print(
        f"{name}: {count:,} numbers in both, {len(different)} arrays of {len(both)} differ", end=""
    )
    print(f", by at most {largest:.1e}" if different else "")
    for title, keys in (
        ("differ", different),
        ("only before", sorted(theirs.keys() - ours.keys())),
        ("only after", sorted(ours.keys() - theirs.keys())),
    ):
        if keys:
            print(f"  {title}: {', '.join(keys[:12])}{' ...' * (len(keys) > 12)} ({len(keys)})")
    return bool(different) or not both


def _numbers(run: Path) -> Iterator[tuple[str, np.ndarray]]:
    """All arrays and all numbers of a run by name."""
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if name.startswith("phantom/"):
            continue
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                # The header of a model is text.
                kinds = {key: arrays[key] for key in arrays.files if key != "header"}
            yield from ((f"{name}:{k}", v.astype(float)) for k, v in kinds.items() if _number(v))
        elif path.suffix == ".npy":
            yield name, np.load(path).astype(float)
        elif path.name in ("results.json", "result.json"):
            yield from _leaves(name, json.loads(path.read_text()))


def _number(array: np.ndarray) -> bool:
    return array.dtype.kind in "fiub"


def _leaves(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not any(word in key for word in _PASSING):
                yield from _leaves(f"{name}:{key}", inner)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _leaves(f"{name}:{i}", inner)
    elif isinstance(value, int | float):
        yield name, np.asarray(value, float)


if __name__ == "__main__":
    main()
