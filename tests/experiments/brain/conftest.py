"""What several of these test files need: programs that are compiled fast, and only once."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture(scope="module")
def fast_compilation(tmp_path_factory):
    """Compiling takes nearly all of the time here, running nothing.

    Every run compiles its programs anew: they share them through a directory. And XLA optimises
    little, which the figures do not depend on beyond rounding.
    """
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_disable_most_optimizations": True,
    }
    before = {name: jax.config.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
