"""P-values adjusted for their number, and what is checked of p-values."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def bonferroni(p: ArrayLike) -> Float[np.ndarray, " m"]:
    """P-values adjusted for their number, in the order given: m * p, at most 1.

    Args:
      p: (m,) p-values in [0, 1].

    Raises:
      ValueError: `p` does not fit this description.
    """
    values = checked_p(p, "p")
    return np.minimum(values.size * values, 1.0)


def holm(p: ArrayLike) -> Float[np.ndarray, " m"]:
    """P-values adjusted by the step-down method of Holm (1979), in the order given.

    The smallest is multiplied by m, the next by m - 1 and so on; each is then at least as large as
    the one before, and at most 1. Never larger than `bonferroni`.

    Args:
      p: (m,) p-values in [0, 1].

    Raises:
      ValueError: `p` does not fit this description.
    """
    values = checked_p(p, "p")
    order = np.argsort(values, kind="stable")
    steps = np.arange(values.size, 0, -1) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def checked_p(p: ArrayLike, name: str) -> Float[np.ndarray, " m"]:
    """P-values as an array.

    Raises:
      ValueError: one is not in [0, 1]; the message calls them `name`.
    """
    values = as_numbers(p, name)
    # The negation of what is right also finds NaN.
    wrong = ~((values >= 0.0) & (values <= 1.0))
    if wrong.any():
        raise ValueError(
            f"{name} holds {values[wrong][0]} at index {np.argmax(wrong)}: p-values lie in [0, 1]."
        )
    return values


def as_numbers(values: ArrayLike, name: str) -> Float[np.ndarray, " n"]:
    """One number or more as an array.

    Raises:
      ValueError: they are no numbers, none, or not in a row; the message calls them `name`.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} does not hold numbers: pass real ones, shape (n,).") from error
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"{name} has shape {numbers.shape}: pass one number or more, shape (n,).")
    return numbers
