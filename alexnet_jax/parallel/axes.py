"""The names of the mesh axes: a batch is split over "data", towers over "model"."""

DATA_AXIS, MODEL_AXIS = "data", "model"
