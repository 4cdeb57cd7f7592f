"""Training: compiled epochs, one model or many at once, checkpoints."""
