"""What a fit without the Gram matrix does, by the size of its working sets.

    python benchmarks/rounds.py [--points=100000] [--nu=.03 .5] [--sets=512 1024 2048 4096]

Standard normal points of 20 dimensions in float32, an RBF kernel with gamma .05. Counts rounds,
products with columns of K, columns and steps of SMO, which depend on the machine by its rounding
alone. Prints a Markdown table.
"""

import argparse
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np

from ocsvm_jax import OCSVM, Status, fit_large, ocsvm_fit, rbf
from ocsvm_jax.solver import dual, working_set


def main() -> None:
    """Prints one line per problem and size of working set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--nu", type=float, nargs="+", default=(0.03, 0.5))
    parser.add_argument("--sets", type=int, nargs="+", default=(512, 1024, 2048, 4096))
    given = parser.parse_args()
    x = np.random.default_rng(0).standard_normal((given.points, 20)).astype(np.float32)
    print("| nu | working set | rounds | products | columns | steps of SMO | gap | status |")
    print("|---|---|---|---|---|---|---|---|")
    for nu in given.nu:
        for size in given.sets:
            model, counts = counted(jnp.asarray(x), nu, size)
            assert model.info is not None
            info = jax.device_get(model.info)
            cells = (nu, size, int(info.num_steps), counts["products"], counts["columns"])
            end = (counts["steps"], f"{float(info.gap):.1e}", Status(int(info.status)).name)
            print("|", " | ".join(map(str, (*cells, *end))), "|", flush=True)


def counted(x: jax.Array, nu: float, size: int) -> tuple[OCSVM, Counter]:
    """A fit with working sets of this size, and what it did.

    Args:
      x: (n, d) points.
      nu: of the model.
      size: number of points of a working set.
    """
    counts, kernel_sum, refine = Counter(), fit_large.kernel_sum, dual.refine

    def product(kernel, centres, weights, points, offset):
        jax.debug.callback(lambda: counts.update(products=1, columns=len(centres)))
        return kernel_sum(kernel, centres, weights, points, offset)

    def refined(problem, alpha, max_steps):
        found = refine(problem, alpha, max_steps)
        jax.debug.callback(lambda steps: counts.update(steps=int(steps)), found.num_steps[0])
        return found

    usual = fit_large._WORKING_SET
    fit_large._WORKING_SET, fit_large.kernel_sum = size, product
    working_set.dual.refine = refined
    jax.clear_caches()  # what was traced before counts nothing
    try:
        model = ocsvm_fit(x, nu, rbf(0.05))
        jax.effects_barrier()
    finally:
        fit_large._WORKING_SET, fit_large.kernel_sum = usual, kernel_sum
        working_set.dual.refine = refine
        jax.clear_caches()
    return model, counts


if __name__ == "__main__":
    main()
