"""P-values adjusted for multiple tests, and checks of p-values."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def bonferroni(p: ArrayLike) -> Float[np.ndarray, " m"]:
    """Bonferroni-adjusted p-values in the order given: min(m * p, 1).

    Args:
      p: (m,) p-values in [0, 1].

    Raises:
      ValueError: `p` does not fit this description.
    """
    values = checked_p(p, "p")
    return np.minimum(values.size * values, 1.0)


def holm(p: ArrayLike) -> Float[np.ndarray, " m"]:
    """P-values adjusted by the step-down method of Holm (1979), in the order given.

    The smallest is multiplied by m, the next by m - 1 and so on; each is then raised to at least
    the one before, and capped at 1. Never larger than `bonferroni`.

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
      ValueError: a value is not in [0, 1]; the message calls the argument `name`.
    """
    values = as_numbers(p, name)
    # Negating the valid range also catches NaN.
    wrong = ~((values >= 0.0) & (values <= 1.0))
    if wrong.any():
        raise ValueError(
            f"{name} holds {values[wrong][0]} at index {np.argmax(wrong)}: p-values lie in [0, 1]."
        )
    return values


def as_numbers(values: ArrayLike, name: str) -> Float[np.ndarray, " n"]:
    """One or more numbers as an array.

    Raises:
      ValueError: values are not numeric, or their shape is not (n,) with n at least 1; the message
        calls the argument `name`.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} does not hold numbers: pass real ones, shape (n,).") from error
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"{name} has shape {numbers.shape}: pass one number or more, shape (n,).")
    return numbers
