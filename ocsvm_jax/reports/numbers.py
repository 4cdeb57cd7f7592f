"""How the numbers of a table are printed; what is not known prints as a dash, never as NaN."""

import math
from collections.abc import Mapping
from typing import Any

from ocsvm_jax.evaluation import comparison as stats

NONE = "-"


def mean(stat: Mapping[str, Any] | None) -> float | None:
    """The mean of ``{"mean": m, "sd": s, "values": [...]}``, None where it is not finite."""
    return finite(None if stat is None else stat.get("mean"))


def spread(stat: Mapping[str, Any] | None) -> str:
    """Mean and standard deviation, such as ``.571 ± .012``; the mean alone of one value."""
    middle = mean(stat)
    if stat is None or middle is None:
        return NONE
    sd = finite(stat.get("sd"))
    return stats.format_mean_sd(middle, math.nan if sd is None else sd, leading_zero=False)


def score(value: float | None) -> str:
    """Three decimals without the zero before the point, as in the paper."""
    return spread({"mean": value})


def published(value: float | None) -> str:
    """Two decimals, which is what the paper prints."""
    value = finite(value)
    if value is None:
        return NONE
    return stats.format_mean_sd(value, math.nan, decimals=2, leading_zero=False)


def decimal(value: float | None) -> str:
    """One decimal, for counts that are not whole."""
    value = finite(value)
    return NONE if value is None else f"{value:,.1f}"


def signed(value: float | None) -> str:
    """A difference with its sign, such as ``+.041``."""
    value = finite(value)
    if value is None:
        return NONE
    return ("-" if round(value, 3) < 0 else "+") + score(abs(value))


def duration(seconds: float) -> str:
    """A time for people, such as ``1 h 30 min``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def assignments(values: Mapping[str, Any]) -> str:
    """Settings in one line, such as ``method.nu=0.1, seed=0``."""
    return ", ".join(f"{name}={_setting(value)}" for name, value in values.items()) or NONE


def finite(value: float | None) -> float | None:
    """The value, None where it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(_setting(item) for item in value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)
