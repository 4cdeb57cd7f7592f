"""The README stays short, its code runs as it stands, and its two commands can be typed."""

import re
import tomllib
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EXTRAS = re.compile(r"pip install (?:-e )?'\.\[([\w,]+)\]'")


def test_the_python_block_runs_and_its_gradient_is_right():
    [block] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
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


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 140


def test_one_command_runs_the_main_job_and_one_the_tests():
    commands = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert commands == [
        "pip install '.[train]' && python train.py --config=configs/digits.py\n",
        "pip install -e '.[test]' && pytest\n",
    ]


def test_the_extras_that_are_named_exist():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pages = [README, *(ROOT / "docs").glob("*.md")]
    lines = [found for page in pages for found in EXTRAS.findall(page.read_text())]
    assert lines
    # The last column of the table of what to import.
    rows = re.findall(r"^\|.*\| `([\w,]+)` \|$", README.read_text(), re.MULTILINE)
    assert rows
    named = {extra for group in [*lines, *rows] for extra in group.split(",")}
    assert named <= set(declared["optional-dependencies"])
