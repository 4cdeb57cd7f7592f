"""Command-line parts shared by train.py and eval.py: flags and helpful errors."""

import itertools
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.extras import MissingExtraError
from ocsvm_jax.suggestions import did_you_mean


def run(main: Callable[[], Any]) -> None:
    """Parses the flags and calls `main`; user errors end in one message and exit code 2."""

    def guarded(arguments: Sequence[str]) -> None:
        logging.set_verbosity(logging.ERROR)  # Orbax logs every file it reads and writes
        if len(arguments) > 1:
            fail(f"unexpected arguments {list(arguments[1:])}; every option starts with --.")
        try:
            main()
        except (ValueError, OSError, MissingExtraError) as error:
            fail(str(error))

    app.run(guarded, flags_parser=_parse)


def fail(message: str) -> NoReturn:
    """Prints an error and exits with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(list(arguments))
    except (flags.Error, OSError) as error:
        if _card_path(arguments) is None and _fields(arguments):
            fail(f"{error}. Its fields need --config=configs/NAME.py.")
        fail(str(error))
    except (AttributeError, KeyError, TypeError):
        # config_flags raises these for a field that the card does not have, or a mistake in it.
        unknown = _unknown_fields(arguments)
        if not unknown:
            raise
        fail(" ".join(unknown))


def _fields(arguments: Sequence[str]) -> list[str]:
    """Names set as --config.NAME=value, including the prefix "config."."""
    names = (argument.lstrip("-").split("=")[0] for argument in arguments)
    return [name for name in names if name.startswith("config.")]


def _unknown_fields(arguments: Sequence[str]) -> list[str]:
    """One message for each --config.NAME whose NAME the card does not have."""
    path = _card_path(arguments)
    known = [f"config.{name}" for name in experiment.field_names(_card(path))] if path else []
    return [
        f"--{name} is no field of this configuration.{did_you_mean(name, known)} "
        f"Its fields are: {', '.join(known)}."
        for name in _fields(arguments)
        if name not in known
    ]


def _card_path(arguments: Sequence[str]) -> str | None:
    """The value of --config, given as --config=PATH or as --config PATH."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config":
            return value if equals else following
    return None


def _card(path: str) -> experiment.Config:
    """The card from its file, without overrides."""
    return runpy.run_path(path)["get_config"]()


def card_name() -> str:
    """Name of the given card, such as "digits" for --config=configs/digits.py."""
    return Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
