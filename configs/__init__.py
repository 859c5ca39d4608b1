"""Experiments: each file changes a few fields of training/defaults.py and says what it costs."""
