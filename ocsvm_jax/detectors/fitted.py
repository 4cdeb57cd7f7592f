"""The trained models of a detector, and their scores."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from ocsvm_jax.detectors.design import Design, program_of
from ocsvm_jax.detectors.ranks import mean_rank
from ocsvm_jax.evaluation.final import FINAL_SCORES, Final
from ocsvm_jax.evaluation.scores import BothWays, FinalOCSVM, own_scores, see, see_both_ways
from ocsvm_jax.methods import METHODS
from ocsvm_jax.training.population import Member, Program


class One(NamedTuple):
    """One trained model.

    Attributes:
      seed: of its training.
      state: the method's state; NumPy arrays.
      final: the one-class SVM on its latents, if the detector is judged by it.
      reference: (n,) scores of the training rows in rising order, for ranks; None for one model.
    """

    seed: int
    state: Any
    final: FinalOCSVM | None = None
    reference: Float[np.ndarray, " n"] | None = None


class Fitted:
    """The trained models of a detector; pickled without their compiled program.

    Attributes:
      design: what they are.
      numbers: the settings that the program is given.
      score_by: name of the score.
      ones: the models.
    """

    def __init__(self, design: Design, numbers: dict[str, Any], score_by: str, ones: list[One]):
        self.design, self.numbers, self.score_by, self.ones = design, numbers, score_by, ones
        self._program: Program | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_program": None}

    @property
    def program(self) -> Program:
        """The program of one model."""
        if self._program is None:
            self._program = program_of(self.design, 1)
        return self._program

    def member(self, seed: int) -> Member:
        """A member of no rows: it only stands for its settings and its seed."""
        none = np.zeros(self.design.plan.batch_size, np.int32)
        return Member(self.numbers, seed, none, none)

    def state_shapes(self) -> Any:
        """Shapes and dtypes of the state of a model."""
        one = jnp.zeros((1, *self.design.shape), jnp.float32)
        return self.program.state_shapes(self.member(0), one)

    def with_finals(self, x: Shaped[np.ndarray, "n *shape"], final: Final) -> "Fitted":
        """The models with one-class SVMs of training rows, and references, where they need them.

        Raises:
          ValueError: if a latent is not finite, or all are equal.
        """
        ones = []
        for one in self.ones:
            seen = self._seen(one, x)
            if self.score_by in FINAL_SCORES:
                one = one._replace(final=_final(seen, final))
            if len(self.ones) > 1:
                one = one._replace(reference=np.sort(_scores(one, seen)[self.score_by]))
            ones.append(one)
        return Fitted(self.design, self.numbers, self.score_by, ones)

    def scores(self, x: Shaped[np.ndarray, "n *shape"]) -> dict[str, Float[np.ndarray, "k n"]]:
        """All scores of all models, larger for more anomalous."""
        found = [_scores(one, self._seen(one, x)) for one in self.ones]
        return {name: np.stack([scores[name] for scores in found]) for name in found[0]}

    def anomaly(self, x: Shaped[np.ndarray, "n *shape"]) -> Float[np.ndarray, " n"]:
        """The score of the detector, larger for more anomalous; of several models the mean rank."""
        scores = self.scores(x)[self.score_by]
        references = [one.reference for one in self.ones if one.reference is not None]
        return mean_rank(list(scores), references) if references else scores[0]

    def latents(self, x: Shaped[np.ndarray, "n *shape"]) -> Float[np.ndarray, "k n d"]:
        """Latents of all models."""
        return np.stack([see(self._model(one), x, self.design.block).z for one in self.ones])

    def _model(self, one: One) -> Any:
        return self.program.see(self.member(one.seed), one.state)

    def _seen(self, one: One, x: Shaped[np.ndarray, "n *shape"]) -> BothWays:
        model, block = self._model(one), self.design.block
        # Only the method that is made for it is worth the second pass over all images.
        if self.design.method == "turned_ogae":
            return see_both_ways(model, x, block)
        return BothWays(see(model, x, block), None)


def _scores(one: One, seen: BothWays) -> dict[str, Float[np.ndarray, " n"]]:
    return own_scores(seen) | ({} if one.final is None else one.final.scores(seen))


def _final(seen: BothWays, final: Final) -> FinalOCSVM:
    z = seen.upright.z
    if np.all(np.isfinite(z)) and not np.any(z != z[:1]):
        raise ValueError(
            "the latents of all training rows are equal: the rows are all the same, or the "
            "training has collapsed. Lower the learning rate or the guidance weight."
        )
    return FinalOCSVM.fit(seen, final)


def check_method(design: Design, numbers: dict[str, Any]) -> None:
    """Raises ValueError if an argument of the method is invalid, before anything is compiled."""
    assert design.method in METHODS
    design.method_for(design.networks(), numbers)
