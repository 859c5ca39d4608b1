"""Environment variables that must be set before jax and TensorFlow start."""

import importlib.metadata
import os

from alexnet_jax.runtime import compilation_cache, malloc

# The default CPU fusions of these versions are slow for this network and known to be wrong
# (jax#39103, jax#39257); an empty value switches them off. Single matrix products by the same
# library are up to five times as fast as XLA's own, and correct in the tested versions
# (tests/runtime/test_xla_flags.py). Other versions may not know the flag, and an unknown flag stops
# the program.
_YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_YNN_VERSIONS = ((0, 10, 1), (0, 12, 99))
_YNN_TESTED: dict[tuple[int, ...], str] = {
    (0, 10, 2): "individual_dot",
    (0, 12, 0): "individual_dot",
}


def configure_xla() -> None:
    """Set XLA's flags, cache its programs and quiet TensorFlow; the user's own variables win.

    Call before importing jax: the command may be executed anew (malloc.restart_with_tunables).
    JAX_COMPILATION_CACHE_DIR names another folder for the programs; if it is empty, none are kept.
    """
    malloc.restart_with_tunables()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it prints a notice, and is not used
    flags = os.environ.get("XLA_FLAGS", "")
    version = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:3])
    may_use_cpu = "cpu" in os.environ.get("JAX_PLATFORMS", "cpu")
    supported = _YNN_VERSIONS[0] <= version <= _YNN_VERSIONS[1]
    if may_use_cpu and supported and _YNN_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_YNN_FLAG}={_YNN_TESTED.get(version, '')}".strip()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (
        cache := compilation_cache.open_folder(os.environ)
    ):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
