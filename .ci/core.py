"""What an installation without extras must do; run by `.ci/run wheel`, away from the sources.

Uses each part of the library once and asks for what is missing. The wheel's contents are checked
too. Prints the count and the size of the installed packages.
"""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

import ocsvm_jax
from ocsvm_jax import extras

ROOT = Path(sys.argv[1])  # the checkout, for train.py and eval.py

files = importlib.metadata.files("ocsvm_jax") or []
names = {str(file) for file in files}
assert "ocsvm_jax/py.typed" in names
foreign = [name for name in names if not name.startswith(("ocsvm_jax/", "ocsvm_jax-"))]
assert not foreign, foreign
assert importlib.metadata.version("ocsvm_jax") == ocsvm_jax.__version__
assert Path(ocsvm_jax.__file__).parents[1] != ROOT, "this is to try the wheel, not the sources"

# Of the packages of extras, Flax and JAX bring these.
BROUGHT = {"absl", "orbax"}
there = {name for name in extras.DISTRIBUTIONS if importlib.util.find_spec(name)}
assert there <= BROUGHT, f"the core brings {sorted(there - BROUGHT)}"

x = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
kernel = ocsvm_jax.rbf(0.3)
solution = ocsvm_jax.ocsvm_solve(ocsvm_jax.gram(kernel, x), nu=0.2)
f = ocsvm_jax.decision_function(solution, ocsvm_jax.gram(kernel, x, x))
assert abs(float(np.sum(solution.alpha)) - 1) < 1e-5 and f.shape == (60,)
model = ocsvm_jax.ocsvm_fit(x, nu=0.2, kernel=kernel)
assert np.allclose(model.decision_function(x), f, atol=1e-4)
loss, _ = ocsvm_jax.guidance_loss(x, nu=0.2, gamma=0.3)
assert np.isfinite(loss)
nus, gammas = np.float32([0.1, 0.3]), np.float32([0.2, 0.5])
assert ocsvm_jax.path.ocsvm_path(x, nus, gammas).rho.shape == (2, 2)
assert ocsvm_jax.path.robust_defaults(x).nu > 0
threshold = ocsvm_jax.conformal.conformal_threshold(np.asarray(f), 0.1, confidence=0.9)
assert np.isfinite(threshold)
assert ocsvm_jax.explain.decision_gradient(model, x).shape == x.shape
locations = ocsvm_jax.localized.fit_locations(x.reshape(4, 15, 3), nu=0.2, gamma=0.3)
assert ocsvm_jax.localized.score_locations(locations, x.reshape(4, 15, 3)).shape == (4, 15)
exported = ocsvm_jax.export.export_scoring(model, platforms=("cpu",))
assert np.allclose(exported.call(x, np.float32(0))["f"], f, atol=1e-4)
assert set(ocsvm_jax.methods.METHODS) >= {"ae", "ogae"}
assert ocsvm_jax.networks.Autoencoder
assert jax.config.read("jax_enable_x64") is False


def refused(action: str, line: str) -> None:
    """Runs a statement that must fail for a missing extra."""
    try:
        exec(action, {"ocsvm_jax": ocsvm_jax, "exported": exported})
    except ModuleNotFoundError as error:
        assert line in str(error), error
        print(f"  {error}")
    else:
        raise AssertionError(f"{action} passed without its extra")


refused("ocsvm_jax.sklearn", "scikit-learn, which is not installed: pip install 'ocsvm_jax[sklearn")
refused("from ocsvm_jax.sklearn import OneClassSVM", "pip install 'ocsvm_jax[sklearn]'")
refused("ocsvm_jax.detectors.OgAE", "pip install 'ocsvm_jax[sklearn]'")
refused("ocsvm_jax.export.save_exported(exported, 'x')", "pip install 'ocsvm_jax[export]'")
refused("import ocsvm_jax.evaluation.metrics", "pip install 'ocsvm_jax[train]'")
refused("import ocsvm_jax.reports.figures", "pip install 'ocsvm_jax[train]'")
refused("import ocsvm_jax.experiments.config", "pip install 'ocsvm_jax[train]'")
refused("from ocsvm_jax.data import load; load('digits')", "pip install 'ocsvm_jax[train]'")
refused("import ocsvm_jax.data.brain", "pip install 'ocsvm_jax[mri]'")
refused(
    "from ocsvm_jax.data import nifti; nifti.read_header('x.nii.gz')", "pip install 'ocsvm_jax[mri]"
)
for script in ("train.py", "eval.py"):
    # -P: the installed package, not the one beside the script.
    done = subprocess.run(
        [sys.executable, "-P", ROOT / script, "--config=configs/digits.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, (done.returncode, done.stderr)
    [message] = done.stderr.splitlines()
    assert message.startswith(f"error: {script} needs ")
    assert message.endswith("pip install 'ocsvm_jax[train]'")
    print(f"  {message}")

installed = [
    d for d in importlib.metadata.distributions() if d.name not in ("pip", "setuptools", "wheel")
]
size = sum(
    Path(str(file.locate())).stat().st_size
    for d in installed
    for file in d.files or []
    if file.suffix != ".pyc" and Path(str(file.locate())).is_file()
)
print(f"core: {len(installed)} packages, {size / 2**20:.0f} MiB, ocsvm_jax {ocsvm_jax.__version__}")
