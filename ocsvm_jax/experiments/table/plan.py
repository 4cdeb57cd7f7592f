"""A card with a `table`, parsed once into what the search, the runs and the results need."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ocsvm_jax.evaluation.final import Final, finals_of
from ocsvm_jax.experiments import method_fields
from ocsvm_jax.experiments.config import Config, plain
from ocsvm_jax.experiments.table import baselines
from ocsvm_jax.experiments.table.baselines import BASELINES
from ocsvm_jax.experiments.table.grid import Grid
from ocsvm_jax.experiments.table.rows import ROWS, Row


class Training(NamedTuple):
    """The fields of a card's `train` section."""

    epochs: int
    batch_size: int
    patience: int
    checkpoint_every: int
    held_out: float
    learning_rate: float


class TablePlan(NamedTuple):
    """The experiment that a card describes.

    Attributes:
      title: title of the report.
      rows: the rows of the table.
      seeds: seeds on which the chosen points are trained.
      protocols: names of the protocols, the main one first.
      search: one of `search.SEARCHES`.
      coarse_epochs: epochs in the first stage of a search, at most `train.epochs`.
      finalists: number of points per row that are trained on all seeds.
      card_competes: methods whose settings in the card are trained on all seeds, too.
      grids: grid by method; a method without a grid is trained with the card's settings.
      main_axes: axes that the first stage crosses, by method.
      finals: settings of the final one-class SVMs by name, see `finals_of`.
      alpha: level of significance of the comparisons.
      resamples: number of resamples of the bootstraps.
      models_at_once: models trained in one program; 0 to choose by device.
      settings: the card's settings of each method.
      train: settings of the training, the same for all methods.
      config: the whole card as JSON would return it, for the results.
    """

    title: str
    rows: Sequence[Row]
    seeds: Sequence[int]
    protocols: Sequence[str]
    search: str
    coarse_epochs: int
    finalists: int
    card_competes: Sequence[str]
    grids: Mapping[str, Grid]
    main_axes: Mapping[str, Sequence[str]]
    finals: Mapping[str, Final]
    alpha: float
    resamples: int
    models_at_once: int
    settings: Mapping[str, dict[str, Any]]
    train: Training
    config: dict[str, Any]

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of their rows."""
        return list(dict.fromkeys(row.method for row in self.rows))

    @property
    def guide(self) -> str:
        """The protocol whose validation images guide the first stage.

        The validation images of the paper's protocol include test images of the leak-free one, and
        all of its validation images: if both are requested, the leak-free ones serve both.
        """
        return "leak_free" if "leak_free" in self.protocols else self.protocols[0]

    def rows_of(self, method: str) -> list[Row]:
        """The rows that report this method."""
        return [row for row in self.rows if row.method == method]

    def epochs(self, method: str) -> int:
        """Epochs of a run that a row reports: 0 for a baseline."""
        return 0 if method in BASELINES else self.train.epochs

    def grid(self, method: str) -> Grid:
        """The grid of this method; empty if it has none."""
        return self.grids.get(method, {})

    def crossed(self, method: str) -> Sequence[str]:
        """The axes crossed in the first stage: all, unless the card names some."""
        return self.main_axes.get(method) or list(self.grid(method))


def plan_of(config: Config) -> TablePlan:
    """The plan of a resolved card; its fields have passed `experiment.check`."""
    table, train = config.table, config.train
    rows = [
        row
        for row in ROWS
        if (not table.methods or row.method in table.methods)
        and (row.fixed is None or table.ablations)
    ]
    return TablePlan(
        title=_title(config),
        rows=rows,
        seeds=list(table.seeds),
        protocols=list(table.protocols),
        search=table.search,
        coarse_epochs=min(table.coarse_epochs, train.epochs),
        finalists=table.finalists,
        card_competes=list(table.card_competes),
        grids={} if table.search == "defaults" else table.grids.to_dict(),
        main_axes=table.main_axes.to_dict(),
        finals=finals_of(table.finals.to_dict()),
        alpha=table.alpha,
        resamples=config.eval.resamples,
        models_at_once=table.models_at_once,
        settings={
            name: (baselines if name in BASELINES else method_fields).settings_of(config, name)
            for name in dict.fromkeys(row.method for row in rows)
        },
        train=Training(*(train[name] for name in Training._fields)),
        config=plain(config),
    )


def _title(config: Config) -> str:
    normal, anomalies = (
        ", ".join(map(str, classes)) for classes in (config.data.normal, config.data.anomalies)
    )
    profile = ", quick profile" if config.quick else ""
    return f"{config.data.name}, {normal} against {anomalies}{profile}"
