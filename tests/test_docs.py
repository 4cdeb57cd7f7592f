"""The code of docs/ runs as it stands; what the pages link to and name exists.

Each section of a page with code runs on the shared setup of that page.
"""

import importlib
import importlib.util
import pkgutil
import re
import urllib.parse
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
from sklearn.svm import OneClassSVM

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "coming_from.md"
TOOLS_PAGE = ROOT / "docs" / "ecosystem.md"
DETECTORS_PAGE = ROOT / "docs" / "detectors.md"
INDEX = ROOT / "benchmarks" / "RESULTS.md"
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
# What a run printed, kept as it was: its paths and modules are those of its commit.
GENERATED = ("brain.md", "choice.md", "mnistc_table1.md")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), INDEX, *RESULTS]
WRITTEN = [page for page in PAGES if page not in RESULTS or page.name not in GENERATED]
# What a section's blocks import; none of the peers is a dependency.
PEERS = {
    "jaxopt": ("jaxopt",),
    "cvxpylayers": ("cvxpy", "cvxpylayers", "torch"),
    "qpax": ("qpax",),
    "moreau": ("moreau",),
}
# The same of the page on other tools.
TOOLS = {
    "A threshold at a false-alarm rate": (),
    "scikit-learn itself": (),
    "ONNX": ("skl2onnx", "onnxruntime"),
    "skops": ("skops",),
    "MLflow": ("mlflow", "skops"),
    "Processes": (),
    "PyOD": ("pyod",),
    "Sparse points": (),
    "SVDD": (),
}


def _blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def _sections(page):
    """The blocks before the first heading, and those under each."""
    setup, *rest = re.split(r"^## (.+)\n", page.read_text(), flags=re.MULTILINE)
    return _blocks(setup), {
        name: _blocks(text) for name, text in zip(rest[::2], rest[1::2], strict=True)
    }


SETUP, SECTIONS = _sections(PAGE)
TOOLS_SETUP, TOOLS_SECTIONS = _sections(TOOLS_PAGE)


@pytest.fixture
def run(monkeypatch):
    """Runs blocks as a reader does, without the settings of this suite; the names they leave."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    def run_blocks(blocks):
        names: dict = {}
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            for block in blocks:
                exec(compile(block, PAGE.name, "exec"), names)
        return names

    return run_blocks


def test_every_section_is_known():
    assert list(SECTIONS) == ["scikit-learn", *PEERS]
    assert list(TOOLS_SECTIONS) == list(TOOLS)


def test_scikit_learn(run):
    run(SETUP + SECTIONS["scikit-learn"])


def _skip_without(modules):
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


# What the peers themselves warn of is not ours to mend.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_gives_the_same(run, name):
    _skip_without(PEERS[name])
    run(SETUP + SECTIONS[name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TOOLS)
def test_a_tool(run, name, monkeypatch, tmp_path):
    _skip_without(TOOLS[name])
    monkeypatch.chdir(tmp_path)  # MLflow leaves files where it runs
    names = list(TOOLS)
    # The first two sections leave what the others compare with.
    before = [b for key in names[: min(2, names.index(name))] for b in TOOLS_SECTIONS[key]]
    if name == "PyOD":
        ocsvm = importlib.import_module("pyod.models.ocsvm")
        monkeypatch.setattr(ocsvm, "OneClassSVM", ocsvm.OneClassSVM)  # put back afterwards
    run(TOOLS_SETUP + before + TOOLS_SECTIONS[name])


def test_the_page_of_detectors(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # it leaves a file and a folder
    blocks = _blocks(DETECTORS_PAGE.read_text())
    assert sum("assert" in block for block in blocks) >= 5
    run(blocks)


@pytest.mark.parametrize("name", ["scikit-learn", *PEERS])
def test_every_section_asserts_what_it_says(name):
    assert any("assert_allclose" in block and "atol=1e-6" in block for block in SECTIONS[name])


@pytest.mark.parametrize("name", TOOLS)
def test_every_section_on_a_tool_asserts_something(name):
    assert any(
        re.search(r"^\s*(assert|np\.testing\.assert_\w+)\b", b, re.M) for b in TOOLS_SECTIONS[name]
    )


def test_what_the_peers_are_compared_with(run):
    names = run(SETUP)
    x, queries, nu, gamma = (names[key] for key in ("x", "queries", "nu", "gamma"))
    expected = OneClassSVM(nu=nu, gamma=gamma, tol=1e-10).fit(x).decision_function(queries)
    actual = nu * len(x) * names["f_ours"](gamma)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def _page_name(path):
    return str(path.relative_to(ROOT))


def _without_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def _links(page):
    """Targets of the links and pictures of a page that are not on the web."""
    targets = re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text()))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def _anchors(page):
    """The fragments that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_page_name)
def test_its_links_resolve(page):
    for target in _links(page):
        path, _, anchor = urllib.parse.unquote(target).partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in _anchors(found), target


def test_anchors_are_checked():
    assert "what-the-certificates-cost" in _anchors(ROOT / "benchmarks" / "results" / "solver.md")
    assert any("#" in target for page in PAGES for target in _links(page))


@pytest.mark.parametrize("page", WRITTEN, ids=_page_name)
def test_the_files_it_names_exist(page):
    folders = "benchmarks|configs|docs|notebooks|ocsvm_jax|tests"
    for path in re.findall(rf"(?<![\w/])(?:{folders})/[\w./]*\w", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", WRITTEN, ids=_page_name)
def test_the_modules_it_names_exist(page):
    for name in set(re.findall(r"\bocsvm_jax(?:\.\w+)+", page.read_text())):
        pkgutil.resolve_name(name)


def _commands(page):
    """Each line of a shell block and each span of inline code, as one line."""
    text = page.read_text()
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*lines.splitlines(), *(span.replace("\n", " ") for span in spans)]


@pytest.mark.parametrize("page", WRITTEN, ids=_page_name)
def test_the_fields_in_its_commands_exist(page, monkeypatch):
    # The cards lie beside the package, not in it.
    monkeypatch.syspath_prepend(ROOT)
    for command in _commands(page):
        if not (card := re.search(r"--config=configs/(\w+)\.py", command)):
            continue
        config = importlib.import_module(f"configs.{card[1]}").get_config()
        for field in re.findall(r"--config\.([a-z][\w.]*)", command):
            found = config
            for part in field.split("."):
                assert part in found, field
                found = found[part]


def test_the_index_lists_every_page_of_results():
    linked = {(INDEX.parent / target).resolve() for target in _links(INDEX)}
    assert set(RESULTS) <= linked
    assert len(INDEX.read_text().splitlines()) <= 50


@pytest.mark.parametrize("page", [p for p in RESULTS if p.name not in GENERATED], ids=_page_name)
def test_a_page_of_results_says_how_it_was_made(page):
    text = page.read_text()
    assert "`python " in text
    assert re.search(r"[Cc]ommits?:? .*\b[0-9a-f]{7}\b", text.replace("\n", " "))


def test_no_page_names_a_directory_of_the_machine_it_was_made_on():
    for page in PAGES:
        assert not re.search(r"dir=[/~]", page.read_text()), page
