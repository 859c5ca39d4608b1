"""Ways to compute the same network; they differ by rounding and speed alone."""

import dataclasses

FORMULATIONS = {
    "strided": ("by_device", "windows", "space_to_depth"),
    "few_maps": ("neighbours", "windows"),
    "small_windows": ("winograd", "windows"),
    "dense": ("by_rows", "products"),
    "norm_sums": ("padded", "shifts", "banded"),
    "towers": ("joined", "separate", "batched"),
    "gradients": ("closed", "automatic"),
}


@dataclasses.dataclass(frozen=True)
class Formulation:
    """Which arithmetic computes a network, each field on its own.

    `strided`: convolutions whose stride exceeds 1: "windows", as such; "space_to_depth", with
    stride 1 on an image whose blocks of stride x stride pixels are folded into its maps
    (convolution.convolve_folded); "by_device", the latter on GPUs for less than eight maps.
    `few_maps`: others of few maps or filters with stride 1: on a CPU the windows of two or four
    "neighbours" at once, of the fewest maps as a product (few.convolve), or "windows" as such.
    `small_windows`: convolutions with windows of 3 x 3 or 5 x 5, stride 1 and not too few maps: on
    a CPU by "winograd" (winograd.convolve), or "windows" as such.
    `dense` layers: on a CPU, where towers are joined, those of all towers at once, in other forms
    if rows are few ("by_rows", dense.product); or "products" as such.
    `norm_sums`: window sums of the norm across maps by additions of "shifts", "padded" on a CPU of
    a copy with zeros beyond the edge, which XLA there adds faster; or as a product with a "banded"
    matrix of zeros and ones.
    `towers` that live on one device: "joined" into one convolution with the filters of all where
    they see one array, as in conv1 and after an exchange, with the maps of all in one array until a
    layer needs its own, and into one softmax layer; "separate"; or "batched", as joined, where
    other convolutions and dense layers are matrix products with a tower axis too.
    `gradients` of norms and pooling in closed form, or as jax and XLA derive them.
    """

    strided: str = "by_device"
    few_maps: str = "neighbours"
    small_windows: str = "winograd"
    dense: str = "by_rows"
    norm_sums: str = "padded"
    towers: str = "joined"
    gradients: str = "closed"


PLAIN = Formulation()
