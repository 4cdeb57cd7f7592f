"""The strict setup of the whole suite, and what keeps it fast.

The suite is bound by compiling: most programs run a few times, on a few points. So XLA is asked to
compile quickly, not well, and programs are kept under `.cache/jax` for later runs and for the other
processes of this one. Two environment variables undo that:

- `OCSVM_JAX_TEST_CACHE=0`: no program is kept, and none that was kept is used.
- `OCSVM_JAX_TEST_OPTIMISED=1`: all programs are compiled as users have them. Without it, only those
  of tests marked `optimised` go through LLVM's optimiser.
"""

import gc
import os
import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parent
_CACHE = _TESTS.parent / ".cache" / "jax"
_CACHED = os.environ.get("OCSVM_JAX_TEST_CACHE", "1") != "0"
_OPTIMISED = os.environ.get("OCSVM_JAX_TEST_OPTIMISED", "0") != "0"
_MOST_BYTES = 2**30  # of kept programs
# Longest first.
_LONGEST = (
    "experiments/brain/test_experiment.py",
    "methods/test_contract.py",
    "test_model.py",
    "experiments/table/test_experiment.py",
    "training/test_population.py",
    "test_scripts.py",
    "test_path.py",
    "solver/test_gradients.py",
    "solver/test_hard.py",
)

# Read by JAX when it is imported and by XLA when it first compiles, here and in the processes that
# tests start.
if _CACHED:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Rewriting asserts and adding the checks of jaxtyping takes each process 10 seconds otherwise.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
else:
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jaxlib.version  # noqa: E402

# XLA's newer code generation for fused loops takes half of the time of compiling. It can be turned
# off up to these releases; later ones end the process at a flag that they do not know.
_QUICK_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
if not _OPTIMISED:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.version.__version_info__ < (0, 11) and _QUICK_EMITTERS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_QUICK_EMITTERS}".strip()

import jax  # noqa: E402
import pytest  # noqa: E402

# Plugins of pytest may have imported JAX before this file could set the environment.
jax.config.update("jax_disable_most_optimizations", not _OPTIMISED)
jax.config.update("jax_enable_compilation_cache", _CACHED)
if _CACHED:
    jax.config.update("jax_compilation_cache_dir", str(_CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Linux allows a process 65,530 mappings of memory by default. Compiled programs take some each and
# keep them; a compilation that gets no more ends the process with a segmentation fault.
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), 25_000


def _forget_programs():
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_are_given_back():
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        _forget_programs()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Turns LLVM's optimiser on for tests marked `optimised` and off for others."""
    off = not (_OPTIMISED or item.get_closest_marker("optimised"))
    if off != jax.config.values["jax_disable_most_optimizations"]:
        _forget_programs()  # JAX would take those that it has, however they were compiled
        jax.config.update("jax_disable_most_optimizations", off)


@pytest.fixture(scope="module")
def standard_promotion():
    """Optax's Adam raises a float to an integer power, which strict dtype promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first: none of them may be the last, on one worker alone."""
    rank = {_TESTS / name: i for i, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_sessionfinish(session):
    """Removes the oldest of the kept programs when there are too many."""
    if not _CACHED or hasattr(session.config, "workerinput"):
        return
    kept = sorted(_CACHE.glob("*-cache"), key=lambda path: path.stat().st_mtime, reverse=True)
    size = 0
    for path in kept:
        size += path.stat().st_size
        if size > _MOST_BYTES:
            path.unlink(missing_ok=True)
