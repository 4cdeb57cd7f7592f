"""No ordinary use hangs on a CPU: threads, devices, callbacks, other calls of LAPACK.

jaxlib's batched calls of LAPACK wait for one another once they hold all of XLA's threads. A process
of its own is asked for each condition, since what hangs there can only be killed.
"""

import os
import subprocess
import sys

import pytest
from support.processes import environment

SECONDS = 240

# More points than are eliminated without LAPACK, the second half twice: the derivative needs the
# eigenvalues of a singular system, too.
COMMON = """
import threading
import jax, jax.numpy as jnp, numpy as np
from ocsvm_jax import gram, ocsvm_solve, rbf

x = np.random.default_rng(0).normal(size=(8, 100, 4))
x[:, 50:] = x[:, :50]
K = jnp.asarray(np.exp(-0.1 * np.sum((x[:, :, None] - x[:, None]) ** 2, axis=-1)), jnp.float32)

def batch(K):
    return jax.vmap(jax.value_and_grad(lambda K: ocsvm_solve(K, 0.3).rho))(K)

values = jax.jit(batch)

def in_threads(*jobs):
    threads = [threading.Thread(target=job) for job in jobs]
    [t.start() for t in threads]
    [t.join() for t in threads]
"""

THREADS = """
def solves():
    for _ in range(3):
        jax.block_until_ready(values(K))

@jax.jit
def factorised(A):
    return jnp.linalg.cholesky(A)

def factorises():
    A = jnp.tile(5 * jnp.eye(100), (64, 1, 1))
    for _ in range(20):
        jax.block_until_ready(factorised(A))

for count in (2, 4, 16):
    in_threads(*[solves] * count)
in_threads(solves, factorises)

import joblib
joblib.Parallel(4, backend="threading")(joblib.delayed(solves)() for _ in range(8))

@jax.jit
def called_back(K):
    shapes = jax.eval_shape(values, K)
    return jax.pure_callback(lambda K: values(jnp.asarray(K)), shapes, K)

jax.block_until_ready(called_back(K))
"""

DEVICES = """
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
over = jax.jit(jax.shard_map(batch, mesh=mesh, in_specs=P("d"), out_specs=P("d")))
for _ in range(3):
    rho, _ = jax.block_until_ready(over(K))

mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(mesh):
    for _ in range(3):
        sharded = jax.device_put(K, NamedSharding(mesh, P("d")))
        same, gradient = jax.block_until_ready(values(sharded))
assert same.sharding.spec[0] == gradient.sharding.spec[0] == "d"
np.testing.assert_allclose(same, rho, rtol=1e-5)
"""


@pytest.mark.parametrize(
    ("program", "before"),
    [
        pytest.param(THREADS, "", id="threads"),
        pytest.param(
            THREADS,
            "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])",
            id="threads on one core",
            marks=pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only"),
        ),
        pytest.param(
            DEVICES,
            "import os; os.environ['XLA_FLAGS'] += ' --xla_force_host_platform_device_count=4'",
            id="four devices",
        ),
    ],
)
def test_it_returns(program, before):
    of_the_process = {k: v for k, v in environment().items() if k != "NPROC"}
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{COMMON}\n{program}\nprint('returned')"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=of_the_process,
    )
    assert done.stdout == "returned\n", done.stderr
