"""A synthetic population of T1 brain slices with lesions of known place.

Made from the MNI152 template that nilearn carries, so it needs no network: registration errors,
ageing, three scanners, white matter lesions and tumours. It serves to compare methods under known
conditions and to test them; figures measured on it are not results on patients.

    python -m ocsvm_jax.data.phantom --out DIR [--profile full] [--seed 0] [--lesions FOLDER]
"""

from ocsvm_jax.data.phantom.cohorts import ARMS, PROFILES, plan
from ocsvm_jax.data.phantom.generate import generate
from ocsvm_jax.data.phantom.shapes import read_shapes
from ocsvm_jax.data.phantom.subject import Drawn, draw
from ocsvm_jax.data.phantom.template import Template, prepare

__all__ = [
    "ARMS",
    "PROFILES",
    "Drawn",
    "Template",
    "draw",
    "generate",
    "plan",
    "prepare",
    "read_shapes",
]
