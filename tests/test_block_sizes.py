"""The size of a block where nobody sets it, on cards that are made up."""

import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax import devices
from ocsvm_jax.block_sizes import _largest_array, bytes_per_row, rows_per_block
from ocsvm_jax.blocks import in_blocks
from ocsvm_jax.localized import fit_locations, score_locations

GIB = 2**30


class Card(NamedTuple):
    """A device as far as blocks look at one; its work is done by another."""

    platform: str
    bytes_limit: int | None
    real: object = None

    def memory_stats(self):
        return None if self.bytes_limit is None else {"bytes_limit": self.bytes_limit, "other": 1}


@pytest.fixture
def cards(monkeypatch):
    """Makes cards out of the devices of this machine."""
    put = jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, card: put(x, getattr(card, "real", card)))
    return lambda count, memory: [Card("gpu", memory, jax.devices()[0]) for _ in range(count)]


class Rows:
    """Cubes of matrices, for which a program stores an array of (rows, 100, 100); counted."""

    def __init__(self):
        self.shapes = []
        self.compiled = jax.jit(self._function)

    def _function(self, x):
        self.shapes.append(x.shape)
        A = jnp.cos(x[:, :, None] - x[:, None, :])
        return jnp.sum(A * jnp.matmul(A, A), axis=(1, 2))


def points(v):
    return np.random.default_rng(0).normal(size=(v, 100))


def size(rows, *cards, function=None):
    return rows_per_block(function or Rows().compiled, [points(2)], rows, cards)


def test_a_cpu_takes_512_whatever_there_is():
    for rows in (3, 700, 10**6):
        assert size(rows, Card("cpu", 100 * GIB)) == 512


def test_a_card_takes_as_few_blocks_of_one_size_as_it_can():
    card = Card("gpu", 80 * GIB)
    assert [size(rows, card) for rows in (1, 31, 500, 4096)] == [1, 31, 512, 4096]
    assert size(5000, card, card) == 2528
    assert size(5000, *[card] * 8) == 640
    for rows in (70_000, 1_000_000):  # for a function that needs little
        block = rows_per_block(jax.jit(jnp.abs), [points(2)[:, 0]], rows, [card])
        assert block % 32 == 0
        assert block <= 2**16 + 32
        assert -(-rows // block) == -(-rows // 2**16)
        assert -(-rows // block) * block - rows < 32 * (-(-rows // block))


def test_two_blocks_fit_into_half_of_the_memory():
    row = 8 * 100 * 100 * 8 + 100 * 8 + 8
    for gib in (1, 4, 16):
        block = size(10**6, Card("gpu", gib * GIB))
        assert 0.25 * gib * GIB - 64 * row < block * row <= 0.25 * gib * GIB + 32 * row
    assert size(10**6, Card("tpu", None)) == size(10**6, Card("tpu", 4 * GIB))
    smallest = size(10**6, Card("gpu", 16 * GIB), Card("gpu", GIB))
    assert smallest == size(10**6, Card("gpu", GIB))
    assert size(100, Card("gpu", 1)) == 1


def test_what_is_never_stored_does_not_count():
    """Differences of all pairs of points and coordinates are summed as they are made."""

    @jax.jit
    def function(z):
        return fit_locations(z, nu=0.2, gamma=0.3).rho

    shapes = jax.ShapeDtypeStruct((64, 20, 50), np.float64)
    for platform in ("cpu", "cuda"):
        program = function.trace(shapes).lower(lowering_platforms=(platform,)).as_text()
        assert ("tensor<64x20x20x50xf64>" in program) == (platform == "cuda")
        assert _largest_array(program) == 64 * 20 * 50 * 8  # the points


def test_a_function_without_a_program_is_judged_by_its_arguments():
    assert bytes_per_row(lambda x: x, [points(2)], 64) == 32 * 800


def test_a_localised_solve_needs_no_more_than_is_assumed(monkeypatch):
    """As an accelerator would run it, all locations at once, here by a CPU's compiler."""
    monkeypatch.setattr(devices, "on_cpu", lambda: False)
    rng = np.random.default_rng(0)
    rows, arrays = 96, [rng.normal(size=(2, 24, 3)), rng.normal(size=(2, 9, 3))]

    @jax.jit
    def function(z, queries):
        return score_locations(fit_locations(z, nu=0.2, gamma=0.3), queries)

    shapes = [jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype) for a in arrays]
    jax.clear_caches()
    needed = function.lower(*shapes).compile().memory_analysis()
    jax.clear_caches()
    assert needed is not None
    taken = needed.temp_size_in_bytes + needed.argument_size_in_bytes + needed.output_size_in_bytes
    assert 24 * 24 * 8 * rows < taken < bytes_per_row(function, arrays, rows) * rows


@pytest.mark.parametrize("memory", [10 * 2**20, 100 * 2**20, GIB])
def test_the_result_is_that_of_any_block(cards, memory):
    function, x = Rows(), points(500)
    done = []
    found = in_blocks(function.compiled, [x], devices=cards(2, memory), progress=done.append)
    expected = in_blocks(Rows().compiled, [x], block=7)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert sum(done) == 500
    # The program whose memory was looked at is the one that ran, unless it was too large.
    assert len(set(function.shapes)) == (1 if memory == GIB else 2)


def test_calls_of_other_lengths_have_one_block(cards):
    function = Rows()
    for v in (400, 1, 333):
        in_blocks(function.compiled, [points(v)], most=400, devices=cards(1, GIB))
    assert function.shapes == [(416, 100)]
    with pytest.raises(ValueError, match=r"most is 399; .* at least the number of rows, 400"):
        in_blocks(function.compiled, [points(400)], most=399, devices=cards(1, GIB))


def test_the_next_block_is_on_its_way_before_one_is_fetched(cards, monkeypatch):
    """Never more than two on a card, and two wherever there are as many left."""
    fetch, lock, meeting = jax.device_get, threading.Lock(), threading.Barrier(2)
    put, held, most = jax.device_put, [0], [0]

    def counted(x, card):
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return put(x, card)

    def fetched(x):
        if int(x[0]) > 0:  # the first runs alone
            meeting.wait(20)  # until the other has been put there as well
        with lock:
            held[0] -= 1
        return fetch(x)

    monkeypatch.setattr(jax, "device_put", counted)
    monkeypatch.setattr(jax, "device_get", fetched)
    x = np.arange(9 * 4)
    found = in_blocks(jax.jit(lambda x: x), [x], block=4, devices=cards(1, GIB))
    np.testing.assert_array_equal(found, x)
    assert most == [2]
