"""Blocks of rows: whatever their size and the number of devices, the result is the function's."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.processes import environment

from ocsvm_jax.blocks import in_blocks
from ocsvm_jax.localized import fit_locations, score_locations

ROOT = Path(__file__).parent.parent
BLOCK = 4


class Traced:
    """A compiled function of rows that counts how often it is traced."""

    def __init__(self):
        self.count = 0
        self.compiled = jax.jit(self._function)

    def _function(self, x, flags):
        self.count += 1
        chosen = jnp.where(flags, jnp.sum(x, axis=1), -1)
        return {"chosen": chosen, "pair": (2 * x, jnp.logical_not(flags))}


def rows(v):
    rng = np.random.default_rng(v)
    return rng.normal(size=(v, 3)), rng.random(v) < 0.5


def assert_right(out, x, flags):
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(out))
    np.testing.assert_allclose(out["chosen"], np.where(flags, x.sum(axis=1), -1), rtol=1e-14)
    np.testing.assert_array_equal(out["pair"][0], 2 * x)
    np.testing.assert_array_equal(out["pair"][1], ~flags)


def test_any_number_of_rows_with_one_trace():
    """One row, fewer than a block, whole blocks, and one more: a pytree of as many rows."""
    function = Traced()
    for v in (1, 3, 4, 8, 9, 31):
        done = []
        out = in_blocks(function.compiled, rows(v), block=BLOCK, progress=done.append)
        assert_right(out, *rows(v))
        assert sum(done) == v
        assert done[:-1] == [BLOCK] * (len(done) - 1)
    assert function.count == 1


def test_rows_that_fill_a_block_up_are_rows_like_any_other():
    """Not zeros, of which a function may make NaN: nothing may come of what nobody asked for."""
    seen = []

    def function(x):
        seen.append(np.asarray(x))
        return 1 / x

    in_blocks(function, [np.arange(1.0, 6.0)], block=BLOCK)
    assert sorted(map(tuple, seen)) == [(1, 2, 3, 4), (5, 5, 5, 5)]


def test_settings_of_the_callers_thread_reach_no_block():
    """Or else the first block would be computed at another precision than the others."""
    function = Traced()
    with jax.default_matmul_precision("bfloat16"):
        in_blocks(function.compiled, rows(20), block=BLOCK)
    in_blocks(function.compiled, rows(20), block=BLOCK)
    assert function.count == 1


def test_blocks_and_progress_keep_their_order():
    """Blocks finish in any order; the last are made to be the first."""
    wake, caller, threads = threading.Event(), threading.get_ident(), []

    def function(x):
        if x[0] == BLOCK:  # the second waits for all others, or for a while
            wake.wait(0.2)
        elif x[0] == 2 * BLOCK:
            wake.set()
        return x

    x = np.arange(5.0 * BLOCK)
    out = in_blocks(
        function,
        [x],
        block=BLOCK,
        devices=jax.devices() * 2,
        progress=lambda rows: threads.append(threading.get_ident()),
    )
    np.testing.assert_array_equal(out, x)
    # A progress bar is updated in one thread, the caller's.
    assert threads == [caller] * 5


@pytest.mark.parametrize("culprit", ["function", "progress"])
def test_an_error_stops_what_has_not_begun(culprit):
    calls = []

    def function(x):
        calls.append(x[0])
        if culprit == "function" and x[0] > 0:
            raise ArithmeticError("of the function")
        return x

    def progress(rows):
        if culprit == "progress":
            raise ArithmeticError("of the progress")

    with pytest.raises(ArithmeticError, match=f"of the {culprit}"):
        in_blocks(function, [np.arange(1000.0)], block=1, progress=progress)
    assert len(calls) < 100


@pytest.mark.parametrize(
    ("lengths", "received"), [((0,), r"\[0\]"), ((3, 4), r"\[3, 4\]"), ((), r"\[\]")]
)
def test_arrays_without_rows_in_common(lengths, received):
    with pytest.raises(ValueError, match=f"the arrays have {received} rows; .* at least 1"):
        in_blocks(jax.jit(lambda *x: x), [np.ones((n, 2)) for n in lengths], block=BLOCK)


def test_says_what_was_received():
    identity = jax.jit(lambda x: x)
    for block in (0, -2):
        with pytest.raises(ValueError, match=f"block is {block}; .* at least 1 row"):
            in_blocks(identity, [np.ones(3)], block=block)
    with pytest.raises(ValueError, match="devices is empty"):
        in_blocks(identity, [np.ones(3)], block=BLOCK, devices=[])
    for function, shape in ((jnp.sum, r"\(\)"), (lambda x: x[:2], r"\(2,\)")):
        with pytest.raises(ValueError, match=rf"arrays of shape {shape} for a block of 4 rows"):
            in_blocks(jax.jit(function), [np.ones(8)], block=BLOCK)


def locations():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(19, 8, 2)), 2 * rng.normal(size=(19, 3, 2))
    return train, rng.random((19, 8)) < 0.9, test


def localized(train, present, test):
    return score_locations(fit_locations(train, present, nu=0.3, gamma=0.5), test)


EIGHT = """
import sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import test_blocks
from ocsvm_jax.blocks import in_blocks
assert jax.device_count() == 8
used, compiled = set(), jax.jit(test_blocks.localized)

def function(*arrays):
    used.update(*(a.devices() for a in arrays))
    return compiled(*arrays)

arrays = test_blocks.locations()
eight = in_blocks(function, arrays, block=2)
assert used == set(jax.devices())
one = in_blocks(compiled, arrays, block=19, devices=jax.devices()[:1])
np.testing.assert_allclose(eight, one, rtol=0, atol=1e-12)
assert one.shape == (19, 3) and np.min(np.std(one, axis=0)) > 0.01
"""


@pytest.mark.slow
def test_eight_devices_make_what_one_makes():
    """Of other blocks as well: localised scores, each device with a compilation of its own."""
    done = subprocess.run(
        [sys.executable, "-c", EIGHT, str(Path(__file__).parent)],
        env=environment(devices=8),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


_FACTORISATIONS = """
import faulthandler
import jax, jax.numpy as jnp, numpy as np
from ocsvm_jax.blocks import in_blocks

@jax.jit
def function(x):
    def again(_, total):
        K = jnp.einsum("bij,bkj->bik", x, x) + total.mean() * jnp.eye(40)
        return total + jnp.linalg.cholesky(jnp.exp(-K) + 5 * jnp.eye(40))[:, 0, 0]
    return jax.lax.fori_loop(0, 20, again, jnp.zeros(len(x)))

faulthandler.dump_traceback_later(120, exit=True)
x = np.random.default_rng(0).random((100 * 256, 40, 40), np.float32)
print(in_blocks(function, [x], block=256).shape)
"""


def test_batched_factorisations_in_several_threads_end():
    """Each holds a thread of XLA, and all of them would wait for one another without end."""
    done = subprocess.run(
        [sys.executable, "-c", _FACTORISATIONS],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.stdout == "(25600,)\n", done.stderr


@jax.jit
def _identity(x):
    return x


@jax.jit
def _factorised(x):
    return x + jnp.linalg.cholesky(jnp.broadcast_to(jnp.eye(3), (len(x), 3, 3)))[:, 0, 0]


@jax.jit
def _solved(x):
    """A localised solve: no LAPACK for a small system, one matrix at a time for a large one."""
    z = jnp.sin(x[:, None, None] + jnp.arange(70.0 * 2).reshape(1, 70, 2))
    return score_locations(fit_locations(z, nu=0.5, gamma=0.3), z)[:, 0]


@pytest.mark.parametrize("function", [_identity, _factorised, _solved])
@pytest.mark.parametrize(
    ("cores", "schedulable", "told", "most"),
    [
        (1, 1, "", 1),
        (2, 2, "", 1),
        (2, 2, "3", 2),
        (2, 2, "9", 2),
        (16, 16, "", 15),
        (16, 4, "", 3),
        (16, 16, "8", 7),
        (2, 2, "none", 1),
    ],
)
def test_a_block_for_each_core(monkeypatch, function, cores, schedulable, told, most):
    """But for functions that factorise in batches: of XLA's threads one is left to them."""
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(schedulable)), raising=False)
    monkeypatch.setenv("NPROC", told)
    under_way, seen, lock = [0], [], threading.Lock()

    class Watched:
        lower = staticmethod(function.lower)

        def __call__(self, x):
            with lock:
                under_way[0] += 1
                seen.append(under_way[0])
            time.sleep(0.02)
            with lock:
                under_way[0] -= 1
            return x

    expected = most if function is _factorised else schedulable
    x = np.arange(4.0 * (expected + 1))
    in_blocks(Watched(), [x], block=2, devices=jax.devices()[:1])
    assert max(seen) == expected
