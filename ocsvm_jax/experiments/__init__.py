"""The experiments: cards, working directories, and what a card runs."""
