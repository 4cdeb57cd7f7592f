"""Checks of the arguments of public functions: one float dtype, and errors before long work."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ocsvm_jax import forks

# Functions of ocsvm_jax.kernels that return a kernel; users may forget to call them.
_FACTORIES = ("rbf", "laplacian", "linear", "polynomial", "sigmoid", "scaled", "precomputed")
_LARGEST_COUNT = 2**31 - 1  # loops count in int32


def as_float(x: Any, name: str = "the argument") -> jax.Array:
    """Converts to a float array: integers to the default float, half precision to float32.

    float32 and float64 are kept.

    Raises:
      TypeError, ValueError: as `as_numbers`.
      RuntimeError: in a forked process, in which JAX would hang.
    """
    forks.refuse("ocsvm_jax")
    forks.note_jax_in_use()
    x = as_numbers(x, name)
    dtype = float_dtype(x.dtype)
    if isinstance(x, np.ndarray):
        # On the host, since int64 would first wrap around in JAX's int32.
        with np.errstate(over="ignore", under="ignore"):
            x = x.astype(dtype)
    return jnp.asarray(x).astype(dtype)


def float_dtype(dtype: Any) -> np.dtype:
    """The float dtype in which numbers of a dtype are computed; float64 only if JAX enables it."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    if dtype.itemsize < 4:
        return np.dtype(np.float32)
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64 if dtype.itemsize > 8 else dtype))


def as_numbers(x: Any, name: str = "the argument") -> np.ndarray | jax.Array:
    """An array of real numbers in its own dtype: JAX arrays as they are, everything else as NumPy.

    Raises:
      TypeError: if x does not hold real numbers: sparse matrices, complex numbers, text, dates.
      ValueError: if values are masked or missing, or rows have different lengths.
    """
    if isinstance(x, jax.Array) or hasattr(x, "__jax_array__"):
        return _real(jnp.asarray(x), name)
    if callable(x) and not hasattr(x, "__array__"):
        raise TypeError(
            f"{name} is {_kind(x)}, but an array of numbers is expected: is the order of the "
            "arguments right?"
        )
    if isinstance(x, (list, tuple)) and not all(map(is_concrete, jax.tree.leaves(x))):
        return _real(jnp.asarray(x), name)
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError(f"{name} is a sparse matrix; pass dense points, such as {name}.toarray().")
    if np.ma.isMaskedArray(x) and np.ma.is_masked(x):
        raise ValueError(
            f"{name} is a masked array with {int(np.sum(np.ma.getmaskarray(x)))} masked values; "
            "fill them in (.filled()) or remove their rows first."
        )
    try:
        x = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array of numbers: {error}") from error
    return _real(_numbers_of_objects(x, name) if x.dtype == object else x, name)


def _real(x: Any, name: str) -> Any:
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name} is complex ({x.dtype}); only real numbers are supported. Pass the real "
            "part, or real and imaginary parts as columns."
        )
    if x.dtype.kind in "mM":
        raise TypeError(
            f"{name} holds dates or times ({x.dtype}); pass numbers in a unit of your choice, such "
            'as (x - x.min()) / np.timedelta64(1, "s").'
        )
    if not (x.dtype == bool or jnp.issubdtype(x.dtype, jnp.number)):
        raise TypeError(f"{name} holds {x.dtype}, not numbers; encode text as numbers first.")
    return x


def _numbers_of_objects(x: np.ndarray, name: str) -> np.ndarray:
    """Python numbers in float64, with NaN for missing values."""
    values = x.ravel().tolist()
    text = next((v for v in values if isinstance(v, str | bytes)), None)
    if text is not None:
        raise TypeError(f"{name} holds text, such as {text!r}; encode text as numbers first.")
    try:
        floats = [np.nan if _is_missing(v) else float(v) for v in values]
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} holds objects that are not real numbers: {error}.") from error
    return np.asarray(floats, np.float64).reshape(x.shape)


def _is_missing(value: Any) -> bool:
    # The missing values of pandas are recognised by name, since pandas is not a dependency.
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def is_concrete(x: Any) -> bool:
    """Whether the value is known now, that is, not being traced."""
    return not isinstance(x, Tracer)


def check_real_number(name: str, value: Any, wanted: str) -> None:
    """Raises TypeError unless the value is a real number, not text, a boolean or another object.

    Args:
      name: name of the argument, for the message.
      value: the argument.
      wanted: what it must be, for the message.
    """
    array = value if hasattr(value, "dtype") else None
    plain = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if array is not None:
        plain = jnp.issubdtype(array.dtype, jnp.number) and not jnp.issubdtype(
            array.dtype, jnp.complexfloating
        )
    if not plain:
        raise TypeError(f"{name} is {_shown(value)}; it must be {wanted}.")


def checked_max_steps(max_steps: Any) -> int:
    """The count as an int of at least 1, capped at the largest int32.

    Raises:
      TypeError: if it is not a whole number.
      ValueError: if it is below 1.
    """
    wanted = "a whole number of at least 1, or None for the default"
    check_real_number("max_steps", max_steps, wanted)
    finite = abs(float(max_steps)) < float("inf")  # false for NaN too
    if max_steps != float("inf") and not (finite and max_steps == int(max_steps)):
        raise TypeError(f"max_steps is {max_steps}; it must be {wanted}.")
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; it must be at least 1.")
    return int(min(max_steps, _LARGEST_COUNT))


def check_tol(tol: Any) -> None:
    """Raises TypeError or ValueError unless tol is a positive, finite number, traced, or None."""
    if tol is None or not is_concrete(tol):
        return
    wanted = "one positive number, or None for the default"
    check_real_number("tol", tol, wanted)
    if jnp.ndim(tol) != 0:
        raise ValueError(f"tol has shape {jnp.shape(tol)}; it must be {wanted}.")
    if not 0 < float(tol) < float("inf"):
        raise ValueError(f"tol is {float(tol)}; it must be positive and finite, or None.")


def check_kernel(kernel: Any) -> None:
    """Raises TypeError, saying what to write instead, if the kernel cannot be a function of points.

    Whether it takes two points and returns a scalar only shows when it is called.
    """
    use = "a function of two points, such as rbf(gamma) of ocsvm_jax"
    if isinstance(kernel, str):
        ours = {"poly": "polynomial"}.get(kernel, kernel)
        call = f": {ours}({'gamma' if ours in ('rbf', 'laplacian') else ''})"
        hint = call if ours in _FACTORIES else f", one of {', '.join(_FACTORIES)}"
        raise TypeError(f"kernel is the text {kernel!r}; it must be {use}{hint}.")
    if isinstance(kernel, numbers.Number) or hasattr(kernel, "dtype"):
        raise TypeError(
            f"kernel is {_shown(kernel)}; it must be {use}. Pass gamma to the kernel, rbf(0.5), or "
            "to ocsvm_fit by name, gamma=0.5."
        )
    if isinstance(kernel, type) or _is_factory(kernel):
        name = kernel.__name__
        raise TypeError(f"kernel is {name} itself, which makes a kernel: call it, {name}(...).")
    if not callable(kernel):
        raise TypeError(f"kernel is {_kind(kernel)}; it must be {use}.")


def _is_factory(kernel: Any) -> bool:
    module = getattr(kernel, "__module__", None)
    return module == "ocsvm_jax.kernels" and getattr(kernel, "__name__", "") in _FACTORIES


def _kind(value: Any) -> str:
    if _is_factory(value):
        return f"the function {value.__name__}"
    name = getattr(value, "__name__", None)
    return f"the function {name}" if name else f"of type {type(value).__name__}"


def _shown(value: Any) -> str:
    if hasattr(value, "dtype") and jnp.ndim(value) != 0:
        return f"an array of shape {jnp.shape(value)}"
    if isinstance(value, numbers.Number | str | bytes | np.generic) or hasattr(value, "dtype"):
        return repr(value)
    return _kind(value)
