"""Devices that are not here, for which XLA compiles all the same."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

TARGETS = ("h100", "v5e")
_FACTS = Path(__file__).parent / "h100.txtpb"


class Kernel(NamedTuple):
    """What ptxas and XLA say of a kernel written in Pallas.

    Attributes:
      name: its name.
      registers: registers a thread.
      spilled: bytes of spill stores and loads a thread.
      shared: bytes of shared memory a block, None if XLA's list of launches does not name it.
      threads: threads a block.
    """

    name: str
    registers: int
    spilled: int
    shared: int | None
    threads: int | None


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def missing(target: str, jax_version: str) -> str:
    """Why nothing can be compiled for a target, with the command to type; "" if it can be."""
    if target == "v5e":
        return "" if installed("libtpu") else "libtpu is not installed: pip install libtpu"
    if installed("jax_cuda12_plugin") or installed("jax_cuda13_plugin"):
        return ""
    return (
        f"the CUDA plugin of JAX is not installed: pip install jax-cuda12-plugin=={jax_version} "
        f"jax-cuda12-pjrt=={jax_version} nvidia-cuda-nvcc-cu12"
    )


def environment(target: str, dump: str) -> dict[str, str]:
    """The environment of a process that compiles for a target: it takes no device."""
    found = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        # libtpu asks the network on which machine it runs unless it is told.
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    if target == "h100":
        # The programs for a GPU, which are offered by default where one is there.
        found["OCSVM_JAX_FUSED"] = "on"
        found["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump}".strip()
    return found


def sharding(target: str) -> Any:
    """Where the arguments of a program lie that is compiled for one device of the target."""
    import jax
    from jax.experimental import topologies

    if target == "v5e":
        described = topologies.get_topology_desc(
            platform="tpu",
            topology_name="v5e:1x1",
            chips_per_host_bounds=(1, 1, 1),
        )
    else:
        described = topologies.get_topology_desc(
            platform="cuda", target_config=_FACTS.read_text(), topology="1x1x1"
        )
    mesh = topologies.make_mesh(described, (1,), ("one",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def ptxas() -> str | None:
    """The assembler of CUDA: that of the wheel, else the one on the path."""
    for package in ("nvidia.cuda_nvcc", "nvidia.cu13"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in (spec and spec.submodule_search_locations) or ():
            if (path := Path(folder) / "bin" / "ptxas").exists():
                return str(path)
    return shutil.which("ptxas")


def kernels(dump: Path, names: Iterable[str]) -> list[Kernel]:
    """Registers, spills and shared memory of the kernels of these names, from XLA's dump."""
    assembler = ptxas()
    if assembler is None:
        return []
    found = []
    launches = "\n".join(path.read_text() for path in dump.glob("*thunk_sequence.txt"))
    for path in sorted(dump.glob("*.ptx")):
        entries = re.findall(r"\.entry ([\w$.]+)", path.read_text())
        if not any(entry in names for entry in entries):
            continue
        command = [assembler, "-v", "--gpu-name", "sm_90a", str(path), "-o", os.devnull]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        found += [_kernel(name, text, launches) for name, text in _by_entry(said) if name in names]
    return found


def _by_entry(said: str) -> list[tuple[str, str]]:
    parts = re.split(r"Compiling entry function '([^']+)'", said)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _kernel(name: str, said: str, launches: str) -> Kernel:
    def number(pattern: str, text: str) -> int | None:
        match = re.search(pattern, text)
        return int(match[1]) if match else None

    spills = [int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", said)]
    [line] = re.findall(rf".* {re.escape(name)} grid.*", launches)[:1] or [""]
    return Kernel(
        name,
        number(r"Used (\d+) registers", said) or 0,
        sum(spills),
        number(r"shared_memory: (\d+)", line),
        number(r"threads: \[(\d+)", line),
    )


def pallas_names(text: str) -> set[str]:
    """The names of the kernels written in Pallas that a compiled module calls."""
    calls = (line for line in text.splitlines() if "custom_call_target=" in line)
    # Triton's own name of it, or what stands before it in JAX's name of the operation.
    name = re.compile(r'\bname = "([^"]+)"|op_name="[^"]*?([^/"]+)/pallas_call')
    named = (list(name.finditer(line)) for line in calls if "pallas_call" in line)
    return {found[-1][1] or found[-1][2] for found in named if found}
