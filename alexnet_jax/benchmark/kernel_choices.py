"""Alternatives of the training step, each of which takes turns with the usual one.

They give the same numbers up to rounding (tests/kernels); which one is faster depends on the
machine.
"""

from alexnet_jax.runtime.errors import check_choice

# name: the choice of kernels, see kernels.config
KERNEL_CHOICES = {
    "reference": "reference",
    "automatic_gradients": "tuned,-closed_gradients",
    "space_to_depth": "tuned,space_to_depth",
    "strided_windows": "tuned,-space_to_depth_gpu",
    "no_narrow_conv": "tuned,-narrow_conv",
    "no_winograd": "tuned,-winograd",
    "no_tower_dense": "tuned,-tower_dense",
    "banded_norms": "tuned,banded_norm",
    "unpadded_norms": "tuned,-padded_norm",
    "separate_towers": "tuned,-joined_towers,-tower_dense",
    "batched_towers": "tuned,batched_towers",
}
BFLOAT16_VELOCITY = "bfloat16_velocity"  # see optimizer.momentum_sgd
FREELY_FUSED = "freely_fused"  # see kernels.materialize
TWO_STEPS = "two_steps"  # of one program, which the host starts once
NAMES = (*KERNEL_CHOICES, BFLOAT16_VELOCITY, FREELY_FUSED, TWO_STEPS)


def parse_names(text: str) -> tuple[str, ...]:
    """The names in NAME,NAME,...; `all` is all of them. UserError for an unknown one."""
    if text == "all":
        return NAMES
    names = tuple(filter(None, text.split(",")))
    for name in names:
        check_choice("--kernels", name, ("all", *NAMES))
    return names
