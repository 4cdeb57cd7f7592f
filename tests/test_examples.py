"""The examples in docstrings run and print what they say, with JAX's float64 on and off."""

import doctest
import importlib

import jax
import jaxtyping
import pytest

MODULES = [
    "ocsvm_jax.decision",
    "ocsvm_jax.fit",
    "ocsvm_jax.guidance",
    "ocsvm_jax.kernels",
    "ocsvm_jax.sklearn",
    "ocsvm_jax.solver.implicit",
]


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def as_a_user_runs_them(request, monkeypatch):
    """JAX as a user has it, without the strict settings of this suite."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_x64", request.param)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.usefixtures("as_a_user_runs_them")
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
