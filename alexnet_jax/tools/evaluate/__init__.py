"""Whole splits, each image counted exactly once: views, checkpoints, ensembles and their report."""
