# `just` lists these. They run in the environment of your shell; ci makes its own.
_:
    @just --list --unsorted

# the package, to be edited, with all that its tests and tools need
install:
    python -m pip install --editable '.[test,ecosystem]'

# ruff, its format, codespell; what they can mend, they do
lint:
    ruff check --fix .
    ruff format .
    codespell

# pyright
types:
    pyright

# the tests that are not slow, of all areas or one of .ci/areas.txt: just fast solver
fast area='' *arguments:
    .ci/fast {{area}} {{arguments}}

# all tests
test *arguments:
    pytest {{arguments}}

# the tests of README, docs/ and notebooks
docs:
    pytest tests/test_readme.py tests/test_docs.py tests/test_notebooks.py

# what the continuous integration runs, all of it or the stages named: just ci lint types
ci *stages:
    .ci/run {{stages}}
