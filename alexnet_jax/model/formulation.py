"""Ways to compute the same network; they differ by rounding and speed alone."""

import dataclasses

FORMULATIONS = {
    "strided": ("windows", "space_to_depth"),
    "norm_sums": ("shifts", "banded"),
    "towers": ("separate", "joined", "batched"),
    "gradients": ("closed", "automatic"),
}


@dataclasses.dataclass(frozen=True)
class Formulation:
    """Which arithmetic computes a network, each field on its own.

    `strided`: convolutions whose stride exceeds 1 as such, or with stride 1 on an image whose
    blocks of stride x stride pixels are folded into its maps (convolution.convolve_folded).
    `norm_sums`: window sums of the norm across maps by shifted additions, or as a product with a
    banded matrix of zeros and ones.
    `towers` that live on one device: "separate"; "joined" into one convolution with the filters of
    all where they see one array, as in conv1 and after an exchange, and into one softmax layer; or
    "batched", where other convolutions and dense layers are matrix products with a tower axis too.
    `gradients` of norms and max-pooling in closed form, or as jax and XLA derive them.
    """

    strided: str = "windows"
    norm_sums: str = "shifts"
    towers: str = "separate"
    gradients: str = "closed"


PLAIN = Formulation()
