"""Formats the numbers in tables; unknown values print as a dash, never as NaN."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ocsvm_jax.evaluation.adjusted import checked_p
from ocsvm_jax.evaluation.comparison import mean_sd

NONE = "-"


class Stat(NamedTuple):
    """A quantity measured on several runs.

    Attributes:
      mean: mean of the values.
      sd: sample standard deviation; None for a single value.
      values: one per run.
    """

    mean: float
    sd: float | None
    values: Sequence[float]


def stat_of(values: Sequence[float]) -> Stat:
    """Mean and standard deviation of one or more finite values."""
    middle, sd = mean_sd(values)
    return Stat(middle, finite(sd), list(map(float, values)))


def mean(stat: Stat | None) -> float | None:
    """The mean; None if it is missing or not finite."""
    return finite(None if stat is None else stat.mean)


def spread(stat: Stat | None) -> str:
    """Mean and standard deviation, such as ``.571 ± .012``; only the mean for a single value."""
    middle = mean(stat)
    if stat is None or middle is None:
        return NONE
    sd = finite(stat.sd)
    return format_mean_sd(middle, math.nan if sd is None else sd, leading_zero=False)


def resolved(stat: Stat | None) -> str:
    """`spread` with the decimals that the spread allows, such as ``.64 ± .10``.

    The last decimal is that of the first digit of the standard error, sd / sqrt(n): further ones
    would change with other seeds. One decimal at least, and three at most.
    """
    sd = None if stat is None else finite(stat.sd)
    if stat is None or sd is None or mean(stat) is None:
        return spread(stat)
    error = sd / math.sqrt(max(len(stat.values), 1))
    decimals = 3 if error <= 0 else min(3, max(1, math.ceil(-math.log10(error) - 1e-9)))
    return format_mean_sd(stat.mean, sd, decimals=decimals, leading_zero=False)


def score(value: float | None) -> str:
    """Three decimals without the zero before the point, as in the paper."""
    return NONE if value is None else spread(Stat(value, None, ()))


def published(value: float | None) -> str:
    """Two decimals, as the paper prints them."""
    value = finite(value)
    if value is None:
        return NONE
    return format_mean_sd(value, math.nan, decimals=2, leading_zero=False)


def decimal(value: float | None) -> str:
    """One decimal, for counts that are not integers."""
    value = finite(value)
    return NONE if value is None else f"{value:,.1f}"


def percent(share: float | None) -> str:
    """A share in percent with one decimal, such as ``48.8%``."""
    share = finite(share)
    return NONE if share is None else f"{share:.1%}"


def signed(value: float | None, *, decimals: int = 3, leading_zero: bool = False) -> str:
    """A difference with its sign, such as ``+.041``; a value that prints as 0 gets a plus."""
    value = finite(value)
    if value is None:
        return NONE
    size = format_mean_sd(abs(value), math.nan, decimals=decimals, leading_zero=leading_zero)
    return ("-" if round(value, decimals) < 0 else "+") + size


def p_value(p: float) -> str:
    """A p-value from a test with a known distribution, such as ``0.024`` or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_mean_sd(mean: float, sd: float, *, decimals: int = 3, leading_zero: bool = True) -> str:
    """``0.563 ± 0.012``, or ``.563 ± .012`` without leading zeros; only the mean if sd is NaN.

    Args:
      mean: see `comparison.mean_sd`.
      sd: see `comparison.mean_sd`.
      decimals: digits after the point, at least 0.
      leading_zero: whether to write the zero before the point.

    Raises:
      ValueError: `decimals` is negative.
    """
    if decimals < 0:
        raise ValueError(f"decimals is {decimals}: it must be at least 0.")
    texts = [f"{value:.{decimals}f}" for value in ((mean,) if math.isnan(sd) else (mean, sd))]
    if not leading_zero and decimals > 0:
        # Only at the start or after a sign: 10.5 keeps its zero.
        texts = [t.replace("0.", ".", 1) if t.lstrip("-").startswith("0.") else t for t in texts]
    return " ± ".join(texts)


def format_p(p: float, num_resamples: int, *, adjusted: float | None = None) -> str:
    """A bootstrap p-value for a table, such as ``0.024`` or ``< 1/1000``.

    A share below 1 / num_resamples is printed as an upper bound. So is a value adjusted from it:
    1/1000 times 11 rivals is ``< 11/1000``. A bound that reaches 1 says nothing and is printed as
    ``1.000``.

    Args:
      p: share of the resamples, in [0, 1], see `comparison.Rival.p`.
      num_resamples: number of resamples, at least 1.
      adjusted: value to print in place of `p`: `Rival.p_bonferroni` or `Rival.p_holm`, adjusted
        from max(p, 1 / num_resamples). Whether it is a bound depends on `p` alone.

    Raises:
      ValueError: an argument does not fit this description.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}: it must be at least 1.")
    checked_p([p], "p")
    floor = 1.0 / num_resamples
    floored = max(p, floor)
    printed = floored if adjusted is None else adjusted
    checked_p([printed], "adjusted")
    if printed < floored * (1.0 - 1e-9):
        raise ValueError(
            f"adjusted is {printed}, below {floored}, the larger of p and 1 / num_resamples: pass "
            "p_bonferroni or p_holm of the same rival and the same number of resamples."
        )
    if p < floor * (1.0 - 1e-9) and printed < 1.0:
        return f"< {round(printed * num_resamples)}/{num_resamples}"
    # As many digits as the number of resamples resolves.
    decimals = max(3, math.ceil(math.log10(num_resamples)))
    return f"{printed:.{decimals}f}"


def duration(seconds: float) -> str:
    """A human-readable duration, such as ``1 h 30 min``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def assignments(values: Mapping[str, Any]) -> str:
    """Settings on one line, such as ``method.nu=0.1, seed=0``."""
    return ", ".join(f"{name}={_setting(value)}" for name, value in values.items()) or NONE


def finite(value: float | None) -> float | None:
    """The value; None if it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(_setting(item) for item in value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)
