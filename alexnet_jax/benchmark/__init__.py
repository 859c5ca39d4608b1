"""How fast parts of a run are, each against something else in the same run."""
