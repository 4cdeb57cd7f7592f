"""Runs many command lines of train.py and eval.py in one interpreter, each in a fork of its own.

Importing everything takes seconds, and most command lines under test end in an error at once. Reads
a JSON list of argument lists from standard input, and prints a JSON list of their exit codes and
what each wrote to standard error.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback
import warnings

# Imported for every child before it forks.
from ocsvm_jax import data  # noqa: F401
from ocsvm_jax.evaluation import scores  # noqa: F401
from ocsvm_jax.experiments import cli  # noqa: F401
from ocsvm_jax.experiments.images import report, results  # noqa: F401
from ocsvm_jax.training import loop as training  # noqa: F401

# JAX starts no thread before its first computation, and no child of a fork has one behind it.
warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)


def run(arguments: list[str]) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+") as stderr:
        child = os.fork()
        if child == 0:
            os.dup2(stderr.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = 0
            try:
                sys.argv = arguments
                runpy.run_path(arguments[0], run_name="__main__")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        stderr.seek(0)
        return os.waitstatus_to_exitcode(status), stderr.read()


if __name__ == "__main__":
    print(json.dumps([run(arguments) for arguments in json.load(sys.stdin)]))
