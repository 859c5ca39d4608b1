"""Names of the mesh axes: examples of a batch lie over "data", towers over "model"."""

DATA_AXIS, MODEL_AXIS = "data", "model"
