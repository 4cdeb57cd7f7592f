"""The notebooks run from top to bottom, and what is stored in them is what a reader should see."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _name(path):
    return path.name


def _outputs(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def _figures(notebook):
    return sum("image/png" in output.get("data", {}) for output in _outputs(notebook))


def _assert_clean(notebook):
    """Neither an error nor anything on standard error, where warnings go."""
    for output in _outputs(notebook):
        assert output["output_type"] != "error", output
        assert output.get("name") != "stderr", output


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
def test_what_is_stored(path):
    assert path.stat().st_size < 400_000
    notebook = json.loads(path.read_text())
    _assert_clean(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    # Executed once, in order.
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert _figures(notebook) > 0
    text = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert "colab-badge.svg" in text
    assert f"notebooks/{path.name}" in text
    assert "jax.devices()" in text
    # The runtime's own jax must survive the install cell.
    installs = [line for line in text.splitlines() if "%pip install" in line]
    assert installs
    assert all("--no-deps" in line for line in installs)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
@pytest.mark.skipif(
    importlib.util.find_spec("nbmake") is None,
    reason="nbmake is not installed (pip install nbmake)",
)
@pytest.mark.skipif(
    importlib.util.find_spec("ipykernel") is None, reason="ipykernel is not installed"
)
def test_it_runs(path, tmp_path):
    copy = shutil.copy(path, tmp_path / path.name)
    # As a reader runs it: without the strict settings of this suite.
    command = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", "--nbmake-timeout=300"]
    plain = ["-c", os.devnull, f"--rootdir={tmp_path}", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *plain, str(copy)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    notebook = json.loads(Path(copy).read_text())
    _assert_clean(notebook)
    assert _figures(notebook) == _figures(json.loads(path.read_text()))
