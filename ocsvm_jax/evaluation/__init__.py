"""Judging a trained model: scores, metrics, resampling, comparisons."""
