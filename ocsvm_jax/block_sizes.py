"""How many rows a block should have, where nobody says: by the platform and by its memory."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ocsvm_jax import devices

# On a CPU a few hundred problems at a time stay in the cache.
_ON_A_CPU = 512
# More rows gain nothing: a launch takes far longer than its overhead. And the first results come
# while the next block is transferred.
_MOST = 2**16
# Blocks of an accelerator's memory: one is computed while the next is transferred.
IN_FLIGHT = 2
# The part of the memory that blocks may take, and what is assumed where a device does not tell.
_SHARE, _UNKNOWN_MEMORY = 0.5, 4 * 2**30
# Temporary arrays at a time, in units of the largest stored array of the program: more than the 1.1
# to 5.2 of the localised SVM compiled for an H100 (benchmarks/results/device_blocks.md).
_TEMPORARY = 8
# For a function that cannot be lowered: its need, in units of its arguments.
_OF_ARGUMENTS = 32
_MULTIPLE = 32
# Operations whose results are stored. All others can be fused with what reads them, such as the
# differences of all pairs of points with their sum over the coordinates.
_STORED = re.compile(
    r"stablehlo\.(dot_general|convolution|reduce|gather|scatter|sort|while|custom_call|"
    r"dynamic_update_slice|cholesky|triangular_solve)\b|func\.func|\bcall @|^\s*}\) :"
)
_TENSOR = re.compile(r"tensor<((?:\d+x)+)(?:complex<)?[a-z]+(\d+)")


def rows_per_block(
    function: Callable[..., Any], arrays: Sequence[np.ndarray], rows: int, used: Sequence[Any]
) -> int:
    """The number of rows for a block, the same whenever function, row shapes and `rows` are.

    On a CPU it is 512. On an accelerator all rows go in as few blocks of equal size as possible,
    at most 65,536 rows each, such that two blocks take at most half of the device's memory.

    Args:
      function: a compiled function (`jax.jit`); the sizes of its arrays are read from its program.
      arrays: its arguments, whose first axis is that of the rows.
      rows: the number of rows to come, of the longest call if there are several.
      used: the devices to share the rows.
    """
    if used[0].platform == "cpu":
        return _ON_A_CPU
    memory = min(devices.memory(device) or _UNKNOWN_MEMORY for device in used)
    size = _evenly(rows, min(_MOST, -(-rows // len(used))))
    fits = int(_SHARE * memory / (IN_FLIGHT * bytes_per_row(function, arrays, size)))
    return size if size <= fits else _evenly(rows, max(fits, 1))


def _evenly(rows: int, most: int) -> int:
    """The size of equal blocks of about `most` rows, a multiple of 32 unless it is less."""
    size = -(-rows // -(-rows // most))
    return size if size < _MULTIPLE else -(-size // _MULTIPLE) * _MULTIPLE


def bytes_per_row(function: Callable[..., Any], arrays: Sequence[np.ndarray], rows: int) -> float:
    """An upper estimate of the memory that a row takes on a device.

    Nothing is compiled for it: the program that will be run is only traced, which is not done again
    when it runs with as many rows.

    Args:
      function: a function of arrays with `rows` rows.
      arrays: its arguments, with any number of rows.
      rows: the number of rows of a block.
    """
    arguments = [
        jax.ShapeDtypeStruct((rows, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype))
        for a in arrays
    ]
    given = sum(math.prod(a.shape) * a.dtype.itemsize for a in arguments) / rows
    if not hasattr(function, "lower"):
        return _OF_ARGUMENTS * given
    program = function.lower(*arguments)  # pyright: ignore[reportFunctionMemberAccess]
    made = sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(program.out_info))
    return given + made / rows + _TEMPORARY * _largest_array(program.as_text()) / rows


def _largest_array(program: str) -> int:
    """Bytes of the largest array that a program, given as its text, has to store."""
    found = set()
    for line in program.splitlines():
        if _STORED.search(line):
            types = line if "func.func" in line else line.rpartition("->")[2]
            found.update(_TENSOR.findall(types))
    sizes = (math.prod(map(int, shape[:-1].split("x"))) * max(int(b), 8) // 8 for shape, b in found)
    return max(sizes, default=0)
