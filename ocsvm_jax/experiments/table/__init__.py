"""The table of an experiment: every method, searched, repeated over seeds, and reported."""
