"""The file of a fitted detector: an `.npz` of plain arrays and a JSON header, without pickle."""

import io
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ocsvm_jax.detectors import parameters
from ocsvm_jax.detectors.design import Design
from ocsvm_jax.detectors.fitted import Fitted, One
from ocsvm_jax.detectors.inputs import Scaling
from ocsvm_jax.evaluation.contrast import Units
from ocsvm_jax.evaluation.scores import FinalOCSVM
from ocsvm_jax.files import whole_file
from ocsvm_jax.model import OCSVM
from ocsvm_jax.training.loop import Plan

FORMAT = "ocsvm_jax.Detector/1"
# Attributes of a fitted detector that JSON holds as they are.
_PLAIN = ("offset_", "n_features_in_", "latent_dim_", "n_epochs_", "history_", "offset_fit_")
_CALIBRATION = "calibration_scores_"
_NAMES = "feature_names_in_"
# Where a file is read or written is not part of it.
_LEFT_OUT = ("network", "workdir")


class Saved(NamedTuple):
    """The content of a file: parameters of the constructor, and attributes of the fit."""

    parameters: dict[str, Any]
    attributes: dict[str, Any]


def write(path: str | os.PathLike, detector: Any, given: Mapping[str, Any]) -> None:
    """Writes a fitted detector atomically.

    Args:
      path: the file.
      detector: the fitted detector.
      given: its parameters.

    Raises:
      FileNotFoundError: if the folder does not exist.
    """
    fitted, scaling = detector._fitted, detector._scaling
    design = fitted.design
    own = design.network is not None
    attributes = {n: getattr(detector, n) for n in _PLAIN if hasattr(detector, n)}
    if hasattr(detector, _NAMES):
        attributes[_NAMES] = list(getattr(detector, _NAMES))
    kept = {n: parameters.plain(v) for n, v in given.items() if n not in _LEFT_OUT}
    header = {
        "format": FORMAT,
        "method": design.method,
        "parameters": kept | {"network": None if own else given["network"]},
        "own_network": own,
        "attributes": attributes,
        "design": design._replace(network=None)._asdict() | {"plan": design.plan._asdict()},
        "numbers": fitted.numbers,
        "score_by": fitted.score_by,
        "seeds": [one.seed for one in fitted.ones],
        "scaling": scaling._replace(centre=None, scale=None)._asdict(),
        "units": [one.final and (one.final.contrast, one.final.errors) for one in fitted.ones],
    }
    arrays = {"centre": np.asarray(scaling.centre), "scale": np.asarray(scaling.scale)}
    if hasattr(detector, _CALIBRATION):
        arrays["calibration"] = getattr(detector, _CALIBRATION)
    for i, one in enumerate(fitted.ones):
        arrays |= _arrays_of(one, f"{i}/")
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with whole_file(path) as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _arrays_of(one: One, prefix: str) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves(one.state)
    arrays = {f"{prefix}state/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    if one.final is not None:
        buffer = io.BytesIO()
        one.final.ocsvm.save(buffer)
        arrays[f"{prefix}ocsvm"] = np.frombuffer(buffer.getvalue(), np.uint8)
    if one.reference is not None:
        arrays[f"{prefix}reference"] = one.reference
    return arrays


def read(path: str | os.PathLike, method: str, name: str, network: Any) -> Saved:
    """Reads a file; never executes anything in it.

    Args:
      path: the file.
      method: the method of the class that reads it.
      name: the name of that class.
      network: the user's own network, or None.

    Raises:
      OSError, ValueError: see `Detector.load`.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            header = json.loads(arrays.pop("header").tobytes())
            found = header["format"]
        # A damaged or foreign archive may raise almost any exception.
        except Exception as error:
            message = f"{os.fspath(path)} is not a detector saved by {name}.save"
            raise ValueError(f"{message}: {type(error).__name__}: {error}") from error
    if found != FORMAT:
        advice = "OCSVM.load reads it" if str(found).startswith("ocsvm_jax.OCSVM/") else "fit again"
        raise ValueError(
            f"{os.fspath(path)} has the format {found!r}; {name}.load reads {FORMAT!r}: {advice}."
        )
    if header["method"] != method:
        raise ValueError(
            f"{os.fspath(path)} holds a detector of the method {header['method']!r}; {name}.load "
            f"reads {method!r}."
        )
    _check_network(path, header, name, network)
    try:
        return _rebuilt(header, arrays, network)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} does not fit together: {error}") from error


def _check_network(path: Any, header: Mapping[str, Any], name: str, network: Any) -> None:
    if header["own_network"] and network is None:
        raise ValueError(
            f"{os.fspath(path)} holds the weights of a network of your own, but not its code: "
            f"{name}.load(path, network=(encoder, decoder))."
        )
    if network is not None and not header["own_network"]:
        raise ValueError(f"{os.fspath(path)} has a default network; leave network out.")


def _rebuilt(header: dict[str, Any], arrays: dict[str, np.ndarray], network: Any) -> Saved:
    plan = Plan(**header["design"].pop("plan"))
    design = Design(**header["design"] | {"plan": plan, "network": network and tuple(network)})
    settings = tuple((k, parameters.settled(v)) for k, v in design.settings)
    design = design._replace(settings=settings, shape=tuple(design.shape))
    numbers = {name: parameters.settled(value) for name, value in header["numbers"].items()}
    fitted = Fitted(design, numbers, header["score_by"], [])
    shapes = fitted.state_shapes()
    fitted.ones = [
        _one(seed, units, _part(arrays, f"{i}/"), shapes)
        for i, (seed, units) in enumerate(zip(header["seeds"], header["units"], strict=True))
    ]
    scaling = header["scaling"] | {"centre": arrays["centre"][()], "scale": arrays["scale"][()]}
    scaling |= {name: tuple(scaling[name]) for name in ("shape", "given")}
    attributes = header["attributes"] | {"_fitted": fitted, "_scaling": Scaling(**scaling)}
    if _NAMES in attributes:
        attributes[_NAMES] = np.asarray(attributes[_NAMES], dtype=object)
    if "calibration" in arrays:
        attributes[_CALIBRATION] = arrays["calibration"]
    given = {name: parameters.settled(value) for name, value in header["parameters"].items()}
    return Saved(given | {"network": network or given["network"]}, attributes)


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with the prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _one(seed: int, units: Any, arrays: Mapping[str, np.ndarray], shapes: Any) -> One:
    wanted, structure = jax.tree.flatten(shapes)
    leaves = [arrays[f"state/{i}"] for i in range(len(wanted))]
    number = sum(name.startswith("state/") for name in arrays)
    if number != len(wanted):
        raise ValueError(f"it holds {number} arrays of weights, and the network has {len(wanted)}")
    for leaf, like in zip(leaves, wanted, strict=True):
        if leaf.shape != like.shape or leaf.dtype != like.dtype:
            raise ValueError(
                f"it holds weights {leaf.dtype} {leaf.shape} where the network has {like.dtype} "
                f"{like.shape}; pass the network of the fit"
            )
    final = None
    if "ocsvm" in arrays:
        known = (None if unit is None else Units(*unit) for unit in units)
        final = FinalOCSVM(OCSVM.load(io.BytesIO(arrays["ocsvm"].tobytes())), *known)
    return One(seed, jax.tree.unflatten(structure, leaves), final, arrays.get("reference"))
