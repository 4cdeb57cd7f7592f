"""Tables of rank tests over patients: which methods differ from the first one."""

from collections.abc import Mapping, Sequence

import numpy as np

from ocsvm_jax.evaluation.rank_tests import RankTest, friedman_wilcoxon, kruskal_dunn
from ocsvm_jax.experiments.brain.records import Results
from ocsvm_jax.experiments.brain.rows import Row, rows_of
from ocsvm_jax.reports.numbers import p_value, signed
from ocsvm_jax.reports.page import Table

Tests = Mapping[str, tuple[RankTest, RankTest]]  # keys: headings that name arm and kind of lesion


def rank_tests_of(results: Results, measure: str) -> list[Table]:
    """Each score of the first method against all other rows, per arm and kind of lesion.

    A patient's value is the mean over seeds. Patients without a value are left out.

    Args:
      results: results of the experiment; with a single row there is no table.
      measure: one of `measures.MEASURES`, for maps without post-processing.
    """
    rows, tests = rows_of(results), {}
    for arm in results.design.arms if len(rows) > 1 else ():
        for kind, cohort in arm.patients.items():
            means = {row.name: row.measured(cohort, measure).mean(axis=0) for row in rows}
            whole = ~np.isnan(list(means.values())).any(axis=0)
            if whole.sum() < 2:
                continue
            kept = {name: own[whole] for name, own in means.items()}
            friedman, kruskal = friedman_wilcoxon(kept), kruskal_dunn(kept)
            heading = (
                f"{arm.said}{kind} lesions, {whole.sum()} of {whole.size} patients: Friedman "
                f"p {p_value(friedman.p)}, Kruskal-Wallis p {p_value(kruskal.p)}"
            )
            tests[heading] = friedman, kruskal
    firsts = [row for row in rows if row.method == rows[0].method] if tests else []
    return [_against_all(row, rows, measure, tests) for row in firsts]


def _against_all(row: Row, rows: Sequence[Row], measure: str, tests: Tests) -> Table:
    others = [other.name for other in rows if other is not row]
    caption = (
        f"{measure} of {row.name}, minus that of each other method; p adjusted for all "
        f"{len(rows) * len(others) // 2} pairs"
    )
    header = ["against", "median difference", "Wilcoxon p, Holm", "Dunn p, Bonferroni"]
    blocks = {
        heading: [_line(row.name, other, *both) for other in others]
        for heading, both in tests.items()
    }
    return Table(caption, header, blocks)


def _line(name: str, other: str, friedman: RankTest, kruskal: RankTest) -> list[str]:
    sign, pair = (1, (name, other)) if (name, other) in friedman.pairs else (-1, (other, name))
    difference = sign * friedman.pairs[pair].difference
    p = [p_value(test.pairs[pair].p_adjusted) for test in (friedman, kruskal)]
    return [other, signed(difference, decimals=4, leading_zero=True), *p]
