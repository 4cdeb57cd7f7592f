"""Provenance of a result: machine, versions and commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

_PACKAGES = ("ocsvm_jax", "jax", "flax", "optax", "numpy", "scikit-learn")


def facts() -> dict[str, str]:
    """Machine, devices, versions and commit as short human-readable texts."""
    device = jax.devices()[0]
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "devices": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "versions": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
        + f", Python {platform.python_version()}",
        "commit": commit(),
    }


def commit() -> str:
    """Commit of the source tree that this package runs from, "-dirty" with uncommitted changes."""
    root = Path(__file__).resolve().parents[2]
    try:
        # An installed package may lie inside the repository of another project.
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() == root:
            return _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        pass
    return "unknown (not a git checkout)"


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=directory, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
