"""A two-tower network for CIFAR-10 that two cores train in minutes, and ablations of it.

Net 145 in small, for crops of 24 pixels: the same kinds of layers in the same order with the norms'
constants of 2012, and one convolution between the towers' exchanges instead of three.
"""

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Dropout, Exchange, MaxPool, Output, ReLU
from alexnet_jax.model.networks.net2012 import NORM_2, SPATIAL
from alexnet_jax.model.networks.published import PAPER_NORM

TOWERS = Architecture(
    name="cifar_towers",
    input_size=24,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 24, size=5, padding=2),
        NORM_2,
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 32, size=5, padding=2, bias=1),
        ReLU(),
        NORM_2,
        SPATIAL,
        MaxPool(3, 2),
        Exchange(),
        Convolution("conv3", 48, size=3, padding=1, deviation=0.03, bias=1),
        MaxPool(3, 2),
        ReLU(),
        Exchange(),
        Dense("fc4", 192, deviation=0.03, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc5"),
    ),
    num_classes=10,
    source="made for sections 3.2 to 3.4 in small",
)

# One tower, with twice its share in the last convolution and the dense layer, as in net145_half.
TOWERS_HALF = Architecture(
    name="cifar_towers_half",
    input_size=24,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 12, size=5, padding=2),
        NORM_2,
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 16, size=5, padding=2, bias=1),
        ReLU(),
        NORM_2,
        SPATIAL,
        MaxPool(3, 2),
        Convolution("conv3", 48, size=3, padding=1, deviation=0.03, bias=1),
        MaxPool(3, 2),
        ReLU(),
        Dense("fc4", 192, deviation=0.03, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc5"),
    ),
    num_classes=10,
    source="section 3.2 in small",
)

# No normalisation of any kind, as in net148.
TOWERS_NO_NORM = Architecture(
    name="cifar_towers_no_norm",
    input_size=24,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 24, size=5, padding=2),
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 32, size=5, padding=2, bias=1),
        ReLU(),
        MaxPool(3, 2),
        Exchange(),
        Convolution("conv3", 48, size=3, padding=1, deviation=0.03, bias=1),
        MaxPool(3, 2),
        ReLU(),
        Exchange(),
        Dense("fc4", 192, deviation=0.03, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc5"),
    ),
    num_classes=10,
    source="section 3.3 in small",
)

# Pooling without overlap: 24 -> 12 -> 6 -> 3 as with it.
TOWERS_POOL2 = Architecture(
    name="cifar_towers_pool2",
    input_size=24,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 24, size=5, padding=2),
        NORM_2,
        MaxPool(2, 2),
        ReLU(),
        Convolution("conv2", 32, size=5, padding=2, bias=1),
        ReLU(),
        NORM_2,
        SPATIAL,
        MaxPool(2, 2),
        Exchange(),
        Convolution("conv3", 48, size=3, padding=1, deviation=0.03, bias=1),
        MaxPool(2, 2),
        ReLU(),
        Exchange(),
        Dense("fc4", 192, deviation=0.03, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc5"),
    ),
    num_classes=10,
    source="section 3.4 in small",
)

# As the paper's text has its network, where net 145 differs: the first norm after the ReLU, alpha
# not divided by 5, no norm over pixels, all weights drawn with deviation 0.01.
TOWERS_PAPER = Architecture(
    name="cifar_towers_paper",
    input_size=24,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 24, size=5, padding=2),
        ReLU(),
        PAPER_NORM,
        MaxPool(3, 2),
        Convolution("conv2", 32, size=5, padding=2, bias=1),
        ReLU(),
        PAPER_NORM,
        MaxPool(3, 2),
        Exchange(),
        Convolution("conv3", 48, size=3, padding=1, bias=1),
        ReLU(),
        MaxPool(3, 2),
        Exchange(),
        Dense("fc4", 192, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc5"),
    ),
    num_classes=10,
    source="the paper's text in small",
)

NETWORKS = (TOWERS, TOWERS_HALF, TOWERS_NO_NORM, TOWERS_POOL2, TOWERS_PAPER)
