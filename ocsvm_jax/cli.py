"""What train.py and eval.py share of the command line: flags, and errors that help."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from ocsvm_jax import experiment


def run(main: Callable[[], Any]) -> None:
    """Parses the flags and calls `main`; what a user can mend ends in one message, exit code 2."""

    def guarded(arguments: Sequence[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # Orbax tells of every file it writes
        if len(arguments) > 1:
            fail(f"unexpected arguments {list(arguments[1:])}; every option starts with --.")
        try:
            main()
        except (ValueError, FileNotFoundError) as error:
            fail(str(error))

    app.run(guarded, flags_parser=_parse)


def fail(message: str) -> None:
    """Prints an error and leaves with exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(list(arguments))
    except (AttributeError, KeyError, TypeError) as error:
        wrong = _unknown_fields(arguments)
        if not wrong:
            raise
        del error
        fail(" ".join(wrong))
    except (flags.Error, OSError) as error:
        fail(str(error))
    raise AssertionError("unreachable")


def _unknown_fields(arguments: Sequence[str]) -> list[str]:
    """One message for each --config.NAME whose NAME the card does not have."""
    names = [a.lstrip("-").split("=")[0] for a in arguments if a.lstrip("-").startswith("config.")]
    known = experiment.field_names(_card(arguments))
    return [
        f"--{name} is no field of this configuration."
        + (experiment.did_you_mean(name, [f"config.{k}" for k in known]))
        + f" Its fields are: {', '.join(known)}."
        for name in names
        if name.removeprefix("config.") not in known
    ]


def _card(arguments: Sequence[str]) -> ConfigDict:
    """The card as it stands in its file, without the overrides."""
    import importlib.util

    path = next(a.split("=", 1)[1] for a in arguments if a.lstrip("-").startswith("config="))
    spec = importlib.util.spec_from_file_location("card", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def card_name() -> str:
    """ "digits" for --config=configs/digits.py."""
    return Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
