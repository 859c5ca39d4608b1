"""Labelled images from their origins to augmented batches: prepare, sources, stream, augment.

May import runtime.
"""
