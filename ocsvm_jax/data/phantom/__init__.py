"""A synthetic population of T1 brain slices with lesions at known positions.

It is made from the MNI152 template that comes with nilearn, without a network, and includes
registration errors, ageing, three scanners, white matter lesions and tumours. Its purpose is to
test methods and to compare them under known conditions; results on it are not results on patients.

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
