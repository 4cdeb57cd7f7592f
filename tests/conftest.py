"""The strict setup of the whole suite: float64, strict promotion, no silent broadcasting."""

import gc
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Linux allows a process 65,530 mappings of memory by default. Compiled programs take some each and
# keep them; a compilation that gets no more ends the process with a segmentation fault.
_MAPS, _MOST_MAPS = Path("/proc/self/maps"), 25_000


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_are_given_back():
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
