"""Weights from one kind of file to another, or to a folder like a training run's."""
