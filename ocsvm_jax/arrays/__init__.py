"""What everything else stands on: arguments, pytrees, distances, scaling."""
