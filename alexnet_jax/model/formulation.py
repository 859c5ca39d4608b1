"""Ways to compute the same network; they differ by rounding and speed alone."""

import dataclasses

FORMULATIONS = {
    "strided": ("windows", "space_to_depth"),
    "norm_sums": ("shifts", "banded"),
    "towers": ("separate", "joined", "batched"),
}


@dataclasses.dataclass(frozen=True)
class Formulation:
    """Which arithmetic computes a network, each field on its own.

    `strided`: convolutions whose stride exceeds 1 as such, or with stride 1 on an image whose
    blocks of stride x stride pixels are folded into its maps (weighted.convolve_folded).
    `norm_sums`: the window sums of the norm across maps by shifted additions, or as a product with
    a banded matrix of zeros and ones.
    `towers`: those that live on one device one after the other; "joined" into one product with the
    filters of all, where they see one array, as after an exchange; or "batched", which also makes
    one product with a tower axis of those that see different arrays (network.weighted).
    """

    strided: str = "windows"
    norm_sums: str = "shifts"
    towers: str = "separate"


PLAIN = Formulation()
