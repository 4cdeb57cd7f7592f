"""The code of the README runs as it stands."""

import re
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def test_the_python_block_runs_and_its_gradient_is_right():
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    # As a user runs it: without the strict settings of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        names: dict = {}
        exec(compile(block, "README.md", "exec"), names)
        loss, gradient = names["loss"], np.asarray(names["gradient"], np.float64)
        x = names["x"].astype(np.float64)
        W = np.eye(8, 2)
        direction = np.random.default_rng(0).standard_normal((8, 2))
        step = 1e-6
        ahead, behind = loss(W + step * direction, x), loss(W - step * direction, x)
    assert float(names["value"]) > 0
    np.testing.assert_allclose(
        np.sum(gradient * direction), (ahead - behind) / (2 * step), rtol=1e-3
    )


def test_every_file_and_command_it_names_exists():
    text = (ROOT / "README.md").read_text()
    named = re.findall(
        r"`?((?:configs|tests|ocsvm_jax|benchmarks)/[\w./]+\.(?:py|md|json|png))", text
    )
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


def test_no_published_figure_names_a_directory_of_the_machine_it_was_made_on():
    pages = [ROOT / "README.md", *(ROOT / "benchmarks").rglob("*.md")]
    assert len(pages) > 3
    for page in pages:
        assert not re.search(r"dir=[/~]", page.read_text()), page
