"""Messages for a name that does not exist: what was received, what is near, what there is."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: object, words: Iterable[str]) -> str:
    """A sentence that names the nearest of `words`, with a space before it, or nothing."""
    near = difflib.get_close_matches(str(word), list(words), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown(kind: str, received: object, available: Iterable[str]) -> str:
    """The message for a name that does not exist.

    Args:
      kind: what the name should have named, such as "protocol".
      received: what was given instead.
      available: the names that exist.
    """
    names = list(available)
    hint = did_you_mean(received, names)
    return f"unknown {kind} {received!r}.{hint} Available: {', '.join(names)}."
