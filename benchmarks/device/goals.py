"""What the figures should become on one H100, and what they were before.

The figures of before were measured on one H100 at commit 3eb48c8 with jax 0.11.2.
"""

from typing import NamedTuple


class Goal(NamedTuple):
    """A goal, and the figure of before ("" if it was not measured)."""

    goal: str
    before: str = ""


BEFORE = "one H100, commit 3eb48c8, jax 0.11.2"

GOALS = {
    "one dual": Goal("", "2 to 3 ms"),
    "duals 2048": Goal("0.05 us", "3.08 us"),
    "duals 2048 gamma .3": Goal("", "2.35 us"),
    "duals 2048 qpax": Goal("", "5.66 us"),
    "duals 68000": Goal("0.03 us", "0.63 us, with Gram matrices and scores"),
    "duals 68000 gamma .3": Goal("", "2.28 us, with Gram matrices and scores"),
    "duals 262144": Goal("", "no answer within 110 s at 65,536"),
    "localized 512": Goal("", "0.67 s"),
    "localized 4096": Goal("", "0.20 s"),
    "localized 68000": Goal("", "0.10 s"),
    "localized 68000 gamma .3": Goal("", "0.21 s"),
    "voxels": Goal("", "0.63 us"),
    "voxels gamma .3": Goal("", "2.28 us"),
    "localized scikit-learn": Goal("", "10.0 s on 16 cores"),
    "cerebrum": Goal("0.25 s", "0.9 s"),
    "cerebrum gamma .3": Goal("0.25 s", "3.3 s"),
    "cerebrum transfers": Goal("1.0 s", "2.1 s"),
    "cerebrum transfers gamma .3": Goal("1.0 s", "4.5 s"),
    "ae step": Goal("0.3 ms at most", "0.56 ms"),
    "ogae step": Goal("1.2 times ae", "4.14 ms, 7.4 times ae"),
    "guidance": Goal("", "2.73 ms"),
    "guidance gradient": Goal("", "5.85 ms, not under jit"),
    "ae 1 model": Goal("", "0.69 ms"),
    "ae 64 models": Goal("", "0.35 ms"),
    "ogae 1 model": Goal("", "2.46 ms"),
    "ogae 64 models": Goal("0.08 ms", "0.43 ms"),
    "lax 1": Goal("", "1.78 ms"),
    "banded 1": Goal("", "1.20 ms"),
    "lax 64": Goal("", "15.7 ms"),
    "banded 64": Goal("", "3.8 ms"),
    "fit 16553 0.03": Goal("", "0.028 s"),
    "fit 16553 0.5": Goal("", "0.033 s"),
    "fit 100000 0.03": Goal("", "0.092 s"),
    "fit 1000000 0.03": Goal("1 s", "2.9 s"),
    "mnistc": Goal("20 s", "57 s"),
    "bandwidth": Goal("", "1.86 TB/s"),
    "matmul default": Goal("", "355 TFLOP/s"),
    "matmul highest": Goal("", "50 TFLOP/s"),
}
