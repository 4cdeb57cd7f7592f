"""Experiment 2: brain MRI, one one-class SVM per voxel."""
