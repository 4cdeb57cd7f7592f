"""Programs for many problems compile in seconds on an accelerator, for which none is needed here.

What made them take minutes is seen in the traced program. XLA evaluates while it compiles whatever
depends on no argument, a reduction of a large constant at about 2 us an entry. And on a GPU it puts
into one kernel, which it may unroll over a tile, all that lies between two arrays in memory.
"""

import math

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Literal

from ocsvm_jax import devices, ocsvm_solve
from ocsvm_jax.localized import fit_locations

LANES, N = 300, 20


@pytest.fixture(autouse=True)
def on_an_accelerator(monkeypatch):
    monkeypatch.setattr(devices, "on_cpu", lambda: False)
    jax.clear_caches()
    yield
    jax.clear_caches()


def solved(K):
    return jax.vmap(lambda K: ocsvm_solve(K, 0.1))(K)


def weighted(K, w):
    return jax.vmap(lambda K, w: ocsvm_solve(K, 0.1, sample_weight=w))(K, w)


def located(z):
    return fit_locations(z, nu=0.1, gamma="scale")


def located_with_missing(z, w):
    return fit_locations(z, w > 0, nu=0.1, gamma=0.1, standardize=True)


@pytest.mark.parametrize("function", [solved, weighted, located, located_with_missing])
def test_no_large_constant_is_reduced(function):
    arguments = (jnp.ones((LANES, N, N)), jnp.ones((LANES, N)))
    arguments = arguments[: function.__code__.co_argcount]
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    found = list(_reduced_constants(jaxpr, [False] * len(jaxpr.invars)))
    assert not [shape for shape in found if LANES in shape]


def test_what_is_reduced_is_seen():
    def function(x):
        many = jnp.ones((LANES, N)) > 0
        return x * jax.jit(lambda m: jnp.any(m, axis=1))(many).astype(x.dtype)

    jaxpr = jax.make_jaxpr(function)(jnp.ones(LANES)).jaxpr
    assert list(_reduced_constants(jaxpr, [False])) == [(LANES, N)]


def test_the_sum_over_pairs_of_points_is_written_to_memory():
    """Tiles of pairs, unrolled together with what follows, are more than a compiler can digest."""
    jaxpr = jax.make_jaxpr(solved)(jnp.ones((LANES, N, N))).jaxpr
    readers = list(_readers_of_sums(jaxpr, (N, N, LANES)))
    assert readers == ["optimization_barrier"]


def test_few_small_problems_are_compiled_for_one_size_of_free_set(monkeypatch):
    """All that is done with the free set once, where a CPU's program holds it for 32 and for n."""

    def choices(lanes, n):
        def total(K):
            return jnp.sum(jax.vmap(lambda K: ocsvm_solve(K, 0.1).rho)(K))

        jax.clear_caches()
        jaxpr = jax.make_jaxpr(jax.grad(total))(jnp.ones((lanes, n, n)))
        names = [equation.primitive.name for equation in _equations(jaxpr.jaxpr)]
        return names.count("eigh"), names.count("cond")

    eighs, conds = choices(2, 50)
    many = choices(300, 60)
    assert choices(2, 100)[0] > eighs
    monkeypatch.setattr(devices, "on_cpu", lambda: True)
    assert choices(2, 50) == (2 * eighs, many[1]) > (eighs, conds)
    assert many[0] == 2 * eighs


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inner(equation):
            yield from _equations(inner)


def _inner(equation):
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else [value]:
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner


def _reduced_constants(jaxpr, constant):
    """Shapes of what depends on no argument and is reduced."""
    known = dict(zip(jaxpr.invars, constant, strict=True))
    for equation in jaxpr.eqns:
        inputs = [isinstance(v, Literal) or known.get(v, True) for v in equation.invars]
        name = equation.primitive.name
        fixed = all(inputs) and name != "optimization_barrier"
        if fixed and name.startswith(("reduce", "arg", "cum", "sort", "dot_general")):
            yield max((v.aval.shape for v in equation.invars), key=math.prod)
        for inner in _inner(equation):
            call = len(inner.invars) == len(inputs) and name in ("pjit", "jit", "closed_call")
            yield from _reduced_constants(inner, inputs if call else [False] * len(inner.invars))
        known |= dict.fromkeys(equation.outvars, fixed)


def _readers_of_sums(jaxpr, shape):
    """Names of the operations that read a sum over an array of this shape."""
    sums = {
        v
        for equation in jaxpr.eqns
        if equation.primitive.name == "reduce_sum" and equation.invars[0].aval.shape == shape
        for v in equation.outvars
    }
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in sums for v in equation.invars):
            yield equation.primitive.name
        for inner in _inner(equation):
            yield from _readers_of_sums(inner, shape)
