"""Experiments: each file changes a few fields of default.py and says what it costs."""
