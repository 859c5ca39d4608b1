"""Names of the kernels, and what a choice such as "tuned" or "winograd,relu" stands for."""

from alexnet_jax.runtime.errors import UserError

# Each kernel by its name: what it computes faster, and where.
KERNELS = {
    "space_to_depth": "convolutions with a stride, folded into more channels and stride 1",
    "space_to_depth_gpu": "the same on GPUs alone, for fewer than eight channels",
    "narrow_conv": "convolutions of few channels or filters on a CPU",
    "winograd": "3 x 3 and 5 x 5 convolutions of more channels on a CPU",
    "joined_towers": "one operation for towers that see the same array",
    "batched_towers": "as joined_towers; other layers as matrix products with a tower axis too",
    "tower_dense": "dense layers of all towers in one product on a CPU",
    "padded_norm": "response norm across channels: additions of a padded copy on a CPU",
    "banded_norm": "response norm across channels: a product with a banded matrix",
    "closed_gradients": "norms and pooling with their gradients in closed form",
    "add_bias": "the gradient of a convolution's bias as a product",
    "relu": "ReLU whose gradient needs the result alone",
    "finite_check": "the search for numbers that are not finite, as a product on a CPU",
    "materialize": "arrays that the compiler would compute several times, written once on a CPU",
}
# Of each group at most one is in use: a later name replaces an earlier one.
_GROUPS = (
    {"space_to_depth", "space_to_depth_gpu"},
    {"joined_towers", "batched_towers"},
    {"padded_norm", "banded_norm"},
)
TUNED = tuple(
    name for name in KERNELS if name not in ("space_to_depth", "batched_towers", "banded_norm")
)
PRESETS = {"reference": (), "tuned": TUNED}


def parse(choice: str) -> frozenset[str]:
    """The kernels of a choice: "tuned", "reference", or names of kernels, separated by commas.

    A preset may come first: "tuned,-winograd" leaves one out, "tuned,banded_norm" adds one.
    UserError for a name that is not known.
    """
    words = [word.strip() for word in choice.split(",") if word.strip()]
    chosen = set(PRESETS[words.pop(0)]) if words and words[0] in PRESETS else set()
    for word in words:
        name = word.removeprefix("-")
        if name not in KERNELS:
            raise UserError(
                f"kernels={choice}: there is no kernel '{name}': expected tuned, reference or some "
                f"of {', '.join(KERNELS)}."
            )
        for group in _GROUPS:
            if name in group:
                chosen -= group
        chosen.discard(name)
        if name == word:
            chosen.add(name)
    return frozenset(chosen)
