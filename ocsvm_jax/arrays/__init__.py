"""Basics that the rest of the package uses: arguments, pytrees, distances, scaling."""
