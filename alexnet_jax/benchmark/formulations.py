"""Other ways to compute the same step, each of which takes turns with the plain one.

They give the same numbers up to rounding (tests/test_formulations.py); which one is faster depends
on the machine.
"""

from alexnet_jax.kernels.config import Formulation
from alexnet_jax.runtime.errors import check_choice

# name: what differs, as arguments of step_time.ready
FORMULATIONS: dict[str, dict] = {
    "automatic_gradients": {"formulation": Formulation(gradients="automatic")},
    "space_to_depth": {"formulation": Formulation(strided="space_to_depth")},
    "strided_windows": {"formulation": Formulation(strided="windows")},
    "few_maps_as_others": {"formulation": Formulation(few_maps="windows")},
    "no_winograd": {"formulation": Formulation(small_windows="windows")},
    "dense_as_such": {"formulation": Formulation(dense="products")},
    "banded_norms": {"formulation": Formulation(norm_sums="banded")},
    "unpadded_norms": {"formulation": Formulation(norm_sums="shifts")},
    "separate_towers": {"formulation": Formulation(towers="separate")},
    "batched_towers": {"formulation": Formulation(towers="batched")},
    "bfloat16_velocity": {"velocity_dtype": "bfloat16"},
}
FREELY_FUSED = "freely_fused"  # see fusion.written
TWO_STEPS = "two_steps"  # of one program, which the host starts once
NAMES = (*FORMULATIONS, FREELY_FUSED, TWO_STEPS)


def chosen(words: str) -> tuple[str, ...]:
    """The names in NAME,NAME,...; `all` is all of them. UserError for one that there is not."""
    if words == "all":
        return NAMES
    names = tuple(filter(None, words.split(",")))
    for name in names:
        check_choice("--formulations", name, ("all", *NAMES))
    return names
