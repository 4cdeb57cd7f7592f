"""The kernels that methods and cards know by name."""

from typing import Any

from ocsvm_jax.arrays.arguments import is_concrete
from ocsvm_jax.kernels import Kernel, laplacian, linear, rbf
from ocsvm_jax.methods.arguments import ArgumentError, Gamma, Number, one_of

KERNELS = ("rbf", "laplacian", "linear")


def check_kernel(kernel: Any, gamma: Any, default: float, prefix: str = "") -> None:
    """Raises ArgumentError unless the kernel is known and takes this gamma.

    Args:
      kernel: a name in `KERNELS`.
      gamma: of the kernel, checked by `check_gamma`.
      default: what gamma is if nobody has set it. Any other value is refused with a kernel that has
        no gamma; a traced one is not known.
      prefix: of the names of both arguments in messages.
    """
    one_of(KERNELS)(f"{prefix}kernel", kernel)
    if kernel == "linear" and is_concrete(gamma) and gamma != default:
        raise ArgumentError(
            f"{prefix}gamma is {gamma!r}; the kernel 'linear' has no gamma: leave it unset "
            f"({default}), or choose another {prefix}kernel."
        )
    if kernel == "laplacian" and isinstance(gamma, str):
        raise ArgumentError(
            f"{prefix}gamma is {gamma!r}; for the kernel 'laplacian' it must be a number: 'scale' "
            "and 'auto' are in units of 1 / distance^2, its gamma is in 1 / distance."
        )


def kernel_named(name: str, gamma: Number) -> Kernel:
    """A kernel of `KERNELS` with this gamma, which the linear kernel does not have."""
    return linear() if name == "linear" else {"rbf": rbf, "laplacian": laplacian}[name](gamma)


def other_than_rbf(name: str, gamma: Gamma) -> Kernel | None:
    """The kernel; None for the RBF kernel, whose gamma `guidance_loss` resolves on each batch."""
    if name == "rbf":
        return None
    assert not isinstance(gamma, str), "refused by check_kernel"
    return kernel_named(name, gamma)
