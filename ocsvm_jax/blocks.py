"""Runs a function of many rows in blocks of one size on all devices.

The rows are independent of one another, so devices exchange nothing: each takes the next block when
it has finished one, and the result does not depend on the number of devices. On a CPU, XLA runs
much of a batch of small problems on one core, so there as many blocks run at once as there are
cores. An accelerator computes one block while the next is on its way to it.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import jax
import numpy as np

from ocsvm_jax.block_sizes import IN_FLIGHT, rows_per_block

# The environment variable that sets the number of XLA's threads.
_THREADS = "NPROC"
_FACTORISATION = re.compile(r"lapack_|blas_|stablehlo\.(cholesky|triangular_solve)")
# An array of three axes or more whose first axis is not 1.
_BATCH = re.compile(r"tensor<(?!1x)\d+x\d+x\d+x")


def in_blocks(
    function: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    *,
    block: int | None = None,
    most: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int], object] = lambda rows: None,
) -> Any:
    """Computes `function(*arrays)`, where all arrays and results have one row per problem.

    Args:
      function: a compiled function (`jax.jit`) from arrays of `block` rows to a pytree of arrays
        with as many rows. Compile it once and pass the same object again: it only ever sees one
        size of block. It runs in other threads, where JAX's settings are those of the process, not
        those of a `with` around the call.
      arrays: arrays of v rows each, on the host; each device holds two blocks at a time, one that
        is computed and one that is transferred, a CPU a few.
      block: number of rows per block; the last block is filled up with its own first row. By
        default 512 on a CPU. On an accelerator all rows then go in as few blocks of one size as
        possible, of 65,536 rows at most, such that two take no more than half of its memory.
      most: with no `block`, the number of rows of the longest of several calls with one function,
        so that all have the same block and the function is compiled once; v by default.
      devices: devices to spread the blocks over; all local ones by default.
      progress: called in the caller's thread with the number of rows that have just been done.

    Returns:
      A pytree of NumPy arrays of v rows.

    Raises:
      ValueError: if the arrays have no rows or different numbers of rows, there is no device, a
        block has no rows, `most` is less than v, or a result of the function does not have one row
        per row of the block.
    """
    rows = {len(a) for a in arrays}
    if len(rows) != 1 or rows == {0}:
        raise ValueError(
            f"the arrays have {sorted(rows)} rows; they must all have the same number, at least 1."
        )
    (v,) = rows
    if block is not None and block < 1:
        raise ValueError(f"block is {block}; a block must have at least 1 row.")
    if most is not None and most < v:
        raise ValueError(f"most is {most}; it must be at least the number of rows, {v}.")
    devices = jax.local_devices() if devices is None else list(devices)
    if not devices:
        raise ValueError("devices is empty; leave it out to use all local ones.")
    # In another thread, so that the function is traced under the settings it will run with.
    with ThreadPoolExecutor(1) as pool:
        if block is None:
            block = pool.submit(rows_per_block, function, arrays, most or v, devices).result()
        at_once = IN_FLIGHT * len(devices)
        if devices[0].platform == "cpu":
            parts = [_filled(a[:block], block) for a in arrays]
            at_once = pool.submit(_most_on_a_cpu, function, parts).result()
    free: SimpleQueue[Any] = SimpleQueue()
    for device in devices * -(-at_once // len(devices)):
        free.put(device)

    def run(start: int) -> Any:
        device = free.get()
        try:
            parts = [_filled(a[start : start + block], block) for a in arrays]
            out = jax.device_get(function(*jax.device_put(parts, device)))
        finally:
            free.put(device)
        _check_rows(out, block)
        return jax.tree.map(lambda x: x[: v - start], out)

    out = []
    for start, part in _in_threads(run, range(0, v, block), at_once):
        out.append(part)
        progress(min(block, v - start))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *out)


def _most_on_a_cpu(function: Callable[..., Any], parts: Sequence[np.ndarray]) -> int:
    """The number of blocks that may run at once on a CPU: one per core, unless they could hang.

    In jaxlib 0.10, a batched LAPACK call (a Cholesky factorisation, say) holds one of XLA's threads
    while it waits for work that it gives to the others. If all threads were held in this way they
    would wait for one another forever, so one thread must stay free. The solver makes no such
    calls.
    """
    if not _factorises_in_batches(function, parts):
        return _cores()
    asked = os.environ.get(_THREADS, "")
    threads = int(asked) if asked.isdecimal() and int(asked) > 0 else _cores()
    return max(1, min(_cores(), threads - 1))


def _factorises_in_batches(function: Callable[..., Any], parts: Sequence[np.ndarray]) -> bool:
    """Whether a compiled function calls LAPACK on more than one matrix at a time."""
    if not hasattr(function, "lower"):
        return False
    program = function.lower(*parts).as_text()  # pyright: ignore[reportFunctionMemberAccess]
    calls = (line for line in program.splitlines() if _FACTORISATION.search(line))
    return any(_BATCH.search(line) for line in calls)


def _cores() -> int:
    """The number of cores that this process may use, which is XLA's default number of threads."""
    cores = os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else cores


def _in_threads(
    run: Callable[[int], Any], starts: Sequence[int], count: int
) -> Iterator[tuple[int, Any]]:
    """Yields each start with the result of `run`, in order; closing the generator stops the rest.

    Args:
      run: the function to run.
      starts: its arguments.
      count: number of threads.
    """
    pool = ThreadPoolExecutor(count)
    try:
        # The first runs alone, since it compiles, and several threads would each compile.
        yield starts[0], pool.submit(run, starts[0]).result()
        yield from zip(starts[1:], pool.map(run, starts[1:]), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _check_rows(out: Any, block: int) -> None:
    shapes = [np.shape(x) for x in jax.tree.leaves(out)]
    wrong = [shape for shape in shapes if shape[:1] != (block,)]
    if wrong:
        raise ValueError(
            f"the function returned arrays of shape {', '.join(map(str, wrong))} for a block of "
            f"{block} rows; every array it returns must have one row for each of them."
        )


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """`size` rows; missing ones are copies of the first."""
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.broadcast_to(rows[:1], (size - len(rows), *rows.shape[1:]))])
