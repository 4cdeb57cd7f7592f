"""Checkpoints through Orbax; the one module that imports it."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

_MISMATCH = "User-provided restore item and on-disk value metadata tree structures do not match:"


class Checkpoints:
    """The newest states of a run, written in the background, one per epoch.

    A checkpoint appears atomically, so a run killed while writing finds the previous one.
    """

    def __init__(self, directory: Path, *, keep: int = 2, read_only: bool = False):
        """Opens a directory of checkpoints.

        Args:
          directory: created if it does not exist, unless `read_only`.
          keep: how many of the newest are kept.
          read_only: leave the directory as it is, because another process may be writing there.
        """
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def latest(self) -> int | None:
        """The newest epoch that has a checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, epoch: int, state: Any) -> None:
        """Starts writing; returns as soon as the arrays are copied to the host."""
        self._manager.save(epoch, args=ocp.args.StandardSave(state))

    def restore(self, like: Any) -> Any:
        """The newest state, as a pytree like `like` (arrays or shapes).

        Raises:
          ValueError: if the checkpoint holds other arrays.
        """
        shapes = jax.eval_shape(lambda: like)
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes
        )
        try:
            return self._manager.restore(self.latest(), args=ocp.args.StandardRestore(target))
        except ValueError as error:
            first = str(error).removeprefix(_MISMATCH).strip().splitlines()[0]
            raise ValueError(
                f"the checkpoint in {self._manager.directory} does not hold the arrays of this "
                "method and network. Another version of this program wrote it, or its "
                "configuration was another: load it with that version, or train again in another "
                "directory. "
                f"The first difference: {first.rstrip(':')}."
            ) from error

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
