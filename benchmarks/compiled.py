"""What XLA makes of the programs of this library for a GPU or TPU that is not here.

    pip install jax-cuda12-plugin==VERSION_OF_JAX jax-cuda12-pjrt==VERSION_OF_JAX \
        nvidia-cuda-nvcc-cu12                                   # for an H100; for a TPU: libtpu
    python benchmarks/compiled.py [--target=h100] [--programs=duals,step] [--seconds=120] [--trees]

XLA compiles for a described device as it would on it, save for what it only finds out by trying
(autotuning is off). Counted are launches, loop by loop: a launch costs some microseconds however
little it computes, so a step of 100 launches cannot be fast; a loop whose length is not known (n)
asks the host whether to go on at every turn. Also bytes, seconds of compilation and, of kernels
written in Pallas for a GPU, registers and spills. Nothing runs: these are counts, not times. Each
program is compiled in a process of its own, in its limit. Prints a Markdown table. A TPU runs a
program as a whole, so for it the counts are of operations.

The library chooses some forms by the default backend when it is traced. Here that is the CPU, so it
is told otherwise (ocsvm_jax.devices, OCSVM_JAX_FUSED).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from device import target as targets


def main() -> None:
    """Compiles, counts and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", choices=targets.TARGETS, default="h100")
    parser.add_argument("--programs", default="", help="parts of names, divided by commas; all")
    parser.add_argument("--seconds", type=float, default=120, help="the limit of a program")
    parser.add_argument(
        "--trees", action="store_true", help="launches and instructions, loop by loop"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--dump", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(counted(arguments.child, arguments.target, arguments.dump)))
        return
    if reason := targets.missing(arguments.target, version("jax")):
        parser.exit(2, f"{reason}\n")
    trees = []
    print(f"Compiled for {arguments.target}, jax {version('jax')}; counted, not run.\n")
    print("| program | launches | lowering, s | compilation, s | MiB | temporary MiB | Pallas |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen(arguments.programs):
        found = in_a_process(name, arguments.target, arguments.seconds)
        print(line(name, found), flush=True)
        if "tree" in found:
            trees.append(f"{name}\n{found['tree']}\n")
    if arguments.trees:
        print("\n```\n" + "\n".join(trees) + "```")


def chosen(parts: str) -> list[str]:
    """The names of the programs that contain one of the parts."""
    from device.programs import PROGRAMS

    wanted = [part.strip().lower() for part in parts.split(",")]
    return [name for name in PROGRAMS if any(part in name.lower() for part in wanted)]


def in_a_process(name: str, target: str, seconds: float) -> dict[str, Any]:
    """What `counted` says, or why it does not."""
    with tempfile.TemporaryDirectory() as dump:
        flags = [f"--child={name}", f"--target={target}", f"--dump={dump}"]
        began = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, __file__, *flags],
                env=targets.environment(target, dump),
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not compiled within {time.monotonic() - began:.0f} s"}
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
            errors = [text for text in said if "Error" in text]
            return {"failed": (errors or said)[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def counted(name: str, target: str, dump: Path) -> dict[str, Any]:
    """Compiles a program in this process and counts."""
    import jax
    from device.launches import formula, launches, tree
    from device.programs import PROGRAMS

    from ocsvm_jax import devices

    devices.on_cpu = lambda: False
    program = PROGRAMS[name]()
    where = targets.sharding(target)
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where), program.arguments
    )
    began = time.perf_counter()
    lowered = jax.jit(program.function).lower(*shapes)
    between = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    text = compiled.as_text() or ""
    loop = launches(text)
    names = targets.pallas_names(text)
    memory: Any = compiled.memory_analysis()
    return {
        "launches": formula(loop),
        "tree": "\n".join([tree(loop), *in_kernels(dump, names)]),
        "lowering": between - began,
        "compilation": done - between,
        "bytes": memory.argument_size_in_bytes + memory.output_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "pallas": sorted(names),
        "kernels": [k._asdict() for k in targets.kernels(dump, names)] if names else [],
    }


def in_kernels(dump: Path, names: set[str]) -> list[str]:
    """The instructions of kernels written in Pallas, loop by loop."""
    from device.instructions import of_kernel

    told = []
    for name in sorted(names):
        told.append(
            f"  in {name}, instructions (exchanges, loads, barriers) of a turn of each loop:"
        )
        for loop in of_kernel(dump, name):
            counts = f"{loop.instructions} ({loop.shuffles}, {loop.loads}, {loop.barriers})"
            told.append(f"    {'  ' * loop.depth}{counts}")
    return told


def line(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    if "failed" in found:
        return f"| {name} | {found['failed']} | | | | | |"
    told = [
        f"{k['name']}: {k['registers']} registers, {k['spilled']} bytes spilled, "
        f"{k['shared']} bytes shared, {k['threads']} threads"
        for k in found["kernels"]
    ]
    return (
        f"| {name} | {found['launches']} | {found['lowering']:.1f} | {found['compilation']:.1f} "
        f"| {found['bytes'] / 2**20:,.1f} | {found['temporary'] / 2**20:,.1f} "
        f"| {'; '.join(told or found['pallas']) or 'none'} |"
    )


if __name__ == "__main__":
    main()
