"""One method trained on images: the experiment of configs/digits.py."""
