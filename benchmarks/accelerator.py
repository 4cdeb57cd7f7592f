"""Everything that is to be known of the device at hand, in at most ten minutes.

    python benchmarks/accelerator.py [--minutes=10] [--parts=duals,step] [--part_seconds=60]
        [--out=runs/accelerator] [--data_dir=PATH_TO_MNIST_C] [--quick]

Runs on a GPU, a TPU or a CPU. `--quick` makes all sizes small and compiles in haste, to see in a
minute that everything works: its times say nothing. Each part runs in its own process with a share
of the time that is left; one that hangs or dies costs its share and nothing else. What a process
has measured is in its file, PART.jsonl, at once, and after each part results.json and results.md
are written anew. Contestants take turns, times are medians over the turns and wait for the device,
and compilation stands apart. All seeds are fixed. The parts:

    copy          bandwidth, the cost of a launch, of a call, of a matrix product
    duals         1 and 2,048 duals of 60 points under vmap; qpax and scikit-learn
    step          a training step of the autoencoder and of OgAE; the guidance alone
    voxels        68,000 localised one-class SVMs and a cerebrum; scikit-learn
    populations   1 and 64 models of both
    large_fits    `ocsvm_fit` up to a million points; scikit-learn
    training      configs/mnistc.py from the data to the report
    sizes         duals of 8 to 200 points
    convolutions  both forms of a convolution, 1 and 64 models
    many_duals    68,000 and 262,144 duals
"""

import argparse
import contextlib
import faulthandler
import importlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from device import report
from device.contest import Setting

# Each with its share of the time: what matters most comes first.
PARTS = {
    "copy": 35,
    "duals": 120,
    "step": 70,
    "voxels": 80,
    "populations": 100,
    "large_fits": 80,
    "training": 80,
    "sizes": 60,
    "convolutions": 30,
    "many_duals": 60,
}
# A process that the limit does not end ends itself after so many seconds more.
GRACE = 10


def main() -> None:
    """Runs the parts one after the other, or one part in this process."""
    arguments = parsed()
    if arguments.child:
        run_part(arguments.child, arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Ended by a signal, too, it ends the process of its part.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ends = time.monotonic() + 60 * arguments.minutes
    command = f"python {shlex.join([os.path.relpath(sys.argv[0]), *sys.argv[1:]])}"
    parts: list[report.Part] = []
    for i, name in enumerate(arguments.parts):
        shares = [PARTS[other] for other in arguments.parts[i:]]
        left = ends - time.monotonic()
        limit = min(left * shares[0] / sum(shares), arguments.part_seconds)
        parts.append(run_process(name, limit, arguments))
        report.write(arguments.out, command, parts)
        print(f"{name}: {parts[-1]['ended']}, {parts[-1]['seconds']:.0f} s", flush=True)
    print(f"\n{(arguments.out / 'results.md').read_text()}")


def parsed() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="names, divided by commas")
    parser.add_argument("--minutes", type=float, help="of all parts; 10, or 1 with --quick")
    parser.add_argument(
        "--part_seconds", type=float, default=math.inf, help="of each part, at most"
    )
    parser.add_argument("--out", type=Path, default=Path("runs") / "accelerator")
    parser.add_argument("--data_dir", default="", help="of MNIST-C, for the part training")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a CPU")
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.parts = [name.strip() for name in arguments.parts.split(",")]
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"no parts are called {', '.join(unknown)}; there are {', '.join(PARTS)}.")
    if arguments.minutes is None:
        arguments.minutes = 1 if arguments.quick else 10
    return arguments


def run_process(name: str, limit: float, arguments: argparse.Namespace) -> report.Part:
    """Runs a part in a process of its own, for `limit` seconds at most; what became of it."""
    rows = report.rows_file(arguments.out, name)
    rows.unlink(missing_ok=True)  # of an earlier run
    log = arguments.out / f"{name}.log"
    flags = [f"--child={name}", f"--out={arguments.out}", f"--part_seconds={limit}"]
    flags += [f"--data_dir={arguments.data_dir}"] + ["--quick"] * arguments.quick
    environment = dict(os.environ)
    if arguments.quick:
        # Compiling is most of what a quick run does, and its times are of no interest.
        environment.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    began = time.monotonic()
    with log.open("wb") as file:
        # A session of its own, so that the processes that it starts can be ended with it.
        process = subprocess.Popen(
            [sys.executable, __file__, *flags],
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            ended = "done" if code == 0 else f"ended with code {code}"
        except subprocess.TimeoutExpired:
            ended = f"stopped at its limit of {limit:.3g} s"
        finally:
            end(process)
    facts, found = report.read_rows(rows)
    tail = "" if ended == "done" else "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    seconds = time.monotonic() - began
    told: dict[str, Any] = {"part": name, "ended": ended, "seconds": seconds, "limit": limit}
    return told | {"facts": facts, "rows": found, "log": tail}


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_part(name: str, arguments: argparse.Namespace) -> None:
    """Measures a part in this process and writes each row as soon as it is known."""
    limit = arguments.part_seconds
    if math.isfinite(limit):
        # Should the parent be gone, nobody else ends a process that hangs in the device's driver.
        faulthandler.dump_traceback_later(limit + GRACE, exit=True)
    setting = Setting(arguments.quick, time.monotonic() + limit, arguments.data_dir)
    from ocsvm_jax.reports import provenance

    with report.rows_file(arguments.out, name).open("w") as file:
        facts = provenance.facts()
        print(json.dumps(facts), file=file, flush=True)
        for row in importlib.import_module(f"device.{name}").rows(setting):
            print(json.dumps(row._asdict()), file=file, flush=True)


if __name__ == "__main__":
    main()
