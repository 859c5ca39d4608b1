"""The networks as tables, comparisons and drawings; no weights are needed."""
