"""The file of a fitted model: an `.npz` of plain arrays and a JSON header, without pickle."""

import dataclasses
import json
import os
from contextlib import nullcontext
from functools import partial
from io import BufferedIOBase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ocsvm_jax import kernels
from ocsvm_jax.arrays.casts import cast, check_parameters, two_parts
from ocsvm_jax.arrays.points import centred
from ocsvm_jax.conformal import round_down
from ocsvm_jax.files import whole_file

# Models with a centre or a calibration use the second format, which readers of the first refuse.
_FORMATS = ("ocsvm_jax.OCSVM/1", "ocsvm_jax.OCSVM/2")
ARRAYS = ("support_vectors", "coefficients", "rho")
_INFO = ("support", "gap", "num_steps", "status")  # absent from a model made by hand
_CALIBRATION = ("calibration", "threshold")
_SAVED_KERNELS = {
    "rbf": kernels.RBF,
    "laplacian": kernels.Laplacian,
    "linear": kernels.Linear,
    "polynomial": kernels.Polynomial,
    "sigmoid": kernels.Sigmoid,
    "scaled": kernels.Scaled,
    "precomputed": kernels.Precomputed,
}


class Saved(NamedTuple):
    """The content of a file; `promise` belongs to the calibration, and is None without one."""

    kernel: Any
    arrays: dict[str, jax.Array]
    promise: dict[str, Any] | None


def write(
    path: str | os.PathLike | BufferedIOBase,
    kernel: Any,
    arrays: dict[str, Any],
    promise: dict[str, Any] | None = None,
) -> None:
    """Writes the arrays and the kernel atomically.

    Args:
      path: the file, or one that is open for writing, such as a part of a larger file.
      kernel: the kernel of the model.
      arrays: arrays by name.
      promise: false_alarm and confidence of a calibration, or None.

    Raises:
      FileNotFoundError: if the folder does not exist.
      ValueError: if the kernel is not composed of kernels of ocsvm_jax.kernels.
    """
    extended = promise is not None or "centre" in arrays
    header = {"format": _FORMATS[extended], "kernel": _describe(kernel)}
    header |= {} if promise is None else {"promise": promise}
    saved = {name: np.asarray(array) for name, array in arrays.items()}
    saved["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    # Open files are their caller's.
    opened = whole_file(path) if isinstance(path, str | os.PathLike) else nullcontext(path)
    with opened as file:
        np.savez(file, **saved)  # pyright: ignore[reportArgumentType]


def read(path: str | os.PathLike | BufferedIOBase) -> Saved:
    """Reads the kernel and the arrays of a file; never executes anything in it.

    Raises:
      OSError: if the file cannot be read, for example FileNotFoundError.
      ValueError: if the file is damaged or not a saved model, or holds numbers out of the range of
        float32 while JAX's float64 is off.
    """
    named = isinstance(path, str | os.PathLike)
    with open(path, "rb") if named else nullcontext(path) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                parts = {_INFO: _INFO[0] in archive, _CALIBRATION: "promise" in header}
                parts |= {("centre",): "centre" in archive}
                names = (*ARRAYS, *(n for part, there in parts.items() if there for n in part))
                arrays = {name: archive[name] for name in names}
            if header["format"] not in _FORMATS:
                raise ValueError(f"its format is {header['format']!r}, not one of {_FORMATS}")
            _check_arrays(arrays, precomputed=header["kernel"]["name"] == "precomputed")
            kernel = _rebuild(header["kernel"], arrays)
            promise = _checked_promise(header.get("promise"))
        # A damaged archive may raise almost any exception.
        except Exception as error:
            name = os.fspath(path) if named else "the file"
            message = f"{name} is not a model saved by OCSVM.save"
            raise ValueError(f"{message}: {error}") from error
    kernel, arrays = _in_dtype_of_jax(kernel, arrays)
    return Saved(kernel, {name: jnp.asarray(array) for name, array in arrays.items()}, promise)


def _check_arrays(arrays: dict[str, np.ndarray], precomputed: bool) -> None:
    vectors, coefficients, rho = (arrays[name] for name in ARRAYS)
    if vectors.ndim != 2 or coefficients.shape != vectors.shape[:1] or rho.shape != ():
        shapes = f"{vectors.shape}, {coefficients.shape} and {rho.shape}"
        raise ValueError(f"its arrays have shapes {shapes}, which do not fit together")
    dtypes = {coefficients.dtype, rho.dtype} | (set() if precomputed else {vectors.dtype})
    if len(dtypes) > 1 or rho.dtype not in (np.float32, np.float64):
        raise ValueError(f"its arrays hold {sorted(map(str, dtypes))}, not one of float32, float64")
    if precomputed and (vectors.dtype.kind not in "iu" or vectors.shape[1] != 1):
        raise ValueError(
            f"its support_vectors are {vectors.dtype} {vectors.shape}, not rows (m, 1)"
        )
    shapes = {"support": coefficients.shape, "gap": (), "num_steps": (), "status": ()}
    shapes |= {"centre": (2, vectors.shape[1]), "threshold": ()}
    for name in arrays.keys() & shapes.keys():
        kinds = "iu" if name in ("support", "num_steps", "status") else "f"
        if arrays[name].dtype.kind not in kinds or arrays[name].shape != shapes[name]:
            raise ValueError(f"its {name} is {arrays[name].dtype} {arrays[name].shape}")
    calibration = arrays.get("calibration", np.zeros(1))
    if calibration.dtype.kind != "f" or calibration.ndim != 1 or calibration.size == 0:
        raise ValueError(f"its calibration is {calibration.dtype} {calibration.shape}")


def _checked_promise(promise: Any) -> dict[str, Any] | None:
    if promise is None:
        return None
    confidence = promise["confidence"]
    return {
        "false_alarm": float(promise["false_alarm"]),
        "confidence": None if confidence is None else float(confidence),
    }


def _in_dtype_of_jax(
    kernel: Any, arrays: dict[str, np.ndarray]
) -> tuple[Any, dict[str, np.ndarray]]:
    """Casts to float32 if JAX's float64 is not enabled, keeping as many digits as possible."""
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(arrays["rho"].dtype))
    if dtype == arrays["rho"].dtype:
        return kernel, arrays
    arrays = dict(arrays)
    if not isinstance(kernel, kernels.Precomputed):
        vectors = arrays.pop("support_vectors")
        centre = arrays.pop("centre", None)
        if centre is None:
            vectors, centre = centred(
                vectors, dtype, kernels.is_shift_invariant(kernel), stacklevel=6
            )
        else:
            # The remainder that the smaller dtype cannot hold is added to the points.
            total = centre[0] + centre[1]
            parts = two_parts(total, dtype)
            rest = (centre[0] - parts[0]) + (centre[1] - parts[1])
            vectors, centre = vectors + rest, parts
        arrays |= {"support_vectors": vectors} | ({} if centre is None else {"centre": centre})
    # Rounded down, a threshold stays safe, and equal to one of the calibration values.
    arrays |= {
        name: np.asarray(round_down(arrays[name], dtype)) for name in _CALIBRATION if name in arrays
    }
    floats = {name for name, array in arrays.items() if array.dtype.kind == "f"}
    arrays |= {name: cast(f"the saved {name}", arrays[name], dtype) for name in floats}
    check_parameters(kernel, dtype)
    return jax.tree.map(lambda value: value.astype(dtype), kernel), arrays


def _describe(kernel: Any) -> dict[str, Any]:
    """A kernel as JSON: its name and its parameters, one of which may be a kernel."""
    names = [name for name, cls in _SAVED_KERNELS.items() if type(kernel) is cls]
    if not names:
        function = kernel.func if isinstance(kernel, partial) else kernel
        raise ValueError(
            f"the kernel is {getattr(function, '__name__', type(function).__name__)}; only "
            f"{sorted(_SAVED_KERNELS)} can be saved. Save the arrays of the model yourself and "
            "rebuild the kernel in code."
        )
    parameters = {f.name: getattr(kernel, f.name) for f in dataclasses.fields(kernel)}
    plain = {
        name: _describe(value) if name == "kernel" else np.asarray(value).tolist()
        for name, value in parameters.items()
    }
    return {"name": names[0], "parameters": plain}


def _rebuild(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """The kernel of a description, its parameters in the dtype of the arrays."""

    def parameter(name: str, value: Any) -> Any:
        if name == "kernel":
            return _rebuild(value, arrays)
        if name in ("degree", "num_points"):
            return int(value)
        shape = arrays["support_vectors"].shape[1:] if name == "scale" else ()
        array = np.asarray(value)
        if array.dtype.kind not in "if" or array.shape != shape:
            raise ValueError(f"{name} is {value!r}, not numbers of shape {shape}")
        return array.astype(arrays["rho"].dtype)

    parameters = {k: parameter(k, value) for k, value in description["parameters"].items()}
    return _SAVED_KERNELS[description["name"]](**parameters)
