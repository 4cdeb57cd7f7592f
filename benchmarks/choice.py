"""The choice of nu and gamma without labels: every rule that was tried, on tables with labels.

    python benchmarks/choice.py --dir=FOLDER [--seeds=5] [--tables=development|held-back|all]

FOLDER holds one `.npz` a table: `X` (rows, columns) and `y`, 1 where a row is an anomaly. The
labels score the choices and are not shown to any rule.

The protocol, written down before the first run:

- Two ways to train. "clean": at random 60% of the normal rows, at most 300 of them; tested on the
  other normal rows and all anomalies. "mixed": at random 500 rows with whatever anomalies are among
  them (all rows, where there are fewer), as people without labels have; tested on the same rows.
  Columns are standardised by the training rows; constant ones are left out.
- Grids: nu in .01, .05, .1, .5 by gamma in .03, .1, .3, 1, 3 times "scale" (the grid of the review
  that found the old rule wanting); "wide": nu in .02, .1, .3, .5, .8 by gamma in .01, .03, .1, .3,
  1, 3, 10, 30 times "scale". The solver is LIBSVM through scikit-learn.
- The figure is the AUROC of the decision values over the test rows, a mean over the seeds; a
  table's best, median and worst are of the grid's cells after this mean, so that a rule, which may
  choose another cell for each seed, competes with the best single cell in hindsight.
- The tables in alphabetical order: every second one from the first is for development, every
  second one from the second is held back. Rules are compared, changed and chosen on the
  development tables (and on scikit-learn's own data sets, one class against the others) only; the
  choice is committed before the held-back tables are scored, once.
- Goals, for clean training: above the grid's median in at least 13 of 16 tables; the mean AUROC at
  least half way from the grid's median to its best, and above scikit-learn's default.
"""
