"""The file of a fitted model: an `.npz` of plain arrays and a JSON header, never a pickle."""

import dataclasses
import json
import os
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from ocsvm_jax import kernels
from ocsvm_jax.files import whole_file

_FORMAT = "ocsvm_jax.OCSVM/1"
ARRAYS = ("support_vectors", "coefficients", "rho")
_INFO = ("support", "gap", "num_steps", "status")  # absent from a model made by hand
_SAVED_KERNELS = {
    "rbf": kernels.RBF,
    "laplacian": kernels.Laplacian,
    "linear": kernels.Linear,
    "polynomial": kernels.Polynomial,
    "sigmoid": kernels.Sigmoid,
    "scaled": kernels.Scaled,
    "precomputed": kernels.Precomputed,
}


def write(path: str | os.PathLike, kernel: Any, arrays: dict[str, Any]) -> None:
    """Writes the arrays and the kernel, whole or not at all.

    Raises:
      ValueError: if the kernel is not made of those of ocsvm_jax.kernels.
    """
    header = json.dumps({"format": _FORMAT, "kernel": _describe(kernel)})
    saved = {name: np.asarray(array) for name, array in arrays.items()}
    saved["header"] = np.frombuffer(header.encode(), np.uint8)
    with whole_file(path) as file:
        np.savez(file, **saved)  # pyright: ignore[reportArgumentType]


def read(path: str | os.PathLike) -> tuple[Any, dict[str, Any]]:
    """The kernel and the arrays; never executes anything it finds in the file.

    Raises:
      OSError: if the file can not be read, FileNotFoundError among them.
      ValueError: on any other or damaged file.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                names = (*ARRAYS, *_INFO) if _INFO[0] in archive else ARRAYS
                arrays = {name: archive[name] for name in names}
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
            _check_arrays(arrays, precomputed=header["kernel"]["name"] == "precomputed")
            kernel = _rebuild(header["kernel"], arrays)
        # A damaged archive raises almost anything.
        except Exception as error:
            message = f"{os.fspath(path)} is not a model saved by OCSVM.save"
            raise ValueError(f"{message}: {error}") from error
    return kernel, {name: jnp.asarray(array) for name, array in arrays.items()}


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
    if "support" not in arrays:
        return
    shapes = {"support": coefficients.shape, "gap": (), "num_steps": (), "status": ()}
    for name, shape in shapes.items():
        kinds = "f" if name == "gap" else "iu"
        if arrays[name].dtype.kind not in kinds or arrays[name].shape != shape:
            raise ValueError(f"its {name} is {arrays[name].dtype} {arrays[name].shape}")


def _describe(kernel: Any) -> dict[str, Any]:
    """A kernel as JSON: its name and its parameters, among which there may be a kernel."""
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
        return jnp.asarray(array, arrays["rho"].dtype)

    parameters = {k: parameter(k, value) for k, value in description["parameters"].items()}
    return _SAVED_KERNELS[description["name"]](**parameters)
