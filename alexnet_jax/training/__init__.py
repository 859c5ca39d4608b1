"""The update rule, the training state, the jitted steps, checkpoints and metrics."""
