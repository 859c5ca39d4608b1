"""Errors of checkpoints and ensembles on a whole split, each image counted exactly once."""
