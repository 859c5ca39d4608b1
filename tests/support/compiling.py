"""XLA's flags for tests, which compile far more than they compute; imported before jax."""

import importlib.metadata

# Its older code generator for fusions compiles a training step in less than half of the time; XLA
# has lost the flag, and a program with an unknown flag stops.
OLD_EMITTERS = (
    " --xla_cpu_use_fusion_emitters=false"
    if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11)
    else ""
)


def flags(optimization_level):
    """XLA_FLAGS for an optimisation level; users have the highest, 3."""
    return f"--xla_backend_optimization_level={optimization_level}{OLD_EMITTERS}"
