"""Net 145 with something taken away or changed: the paper's ablations, sections 3.2 to 3.4.

Errors as in net2012.py.
"""

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Dropout, Exchange, MaxPool, Output, ReLU
from alexnet_jax.model.networks.net2012 import NORM_2, SPATIAL

# One tower of net 145, with twice its share in conv5 and the dense layers.
NET145_HALF = Architecture(
    name="net145_half",
    input_size=224,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 48, size=11, stride=4),
        NORM_2,
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 128, size=5, padding=2, bias=1),
        ReLU(),
        NORM_2,
        SPATIAL,
        MaxPool(3, 2),
        Convolution("conv3", 192, size=3, padding=1, deviation=0.03),
        ReLU(),
        Convolution("conv4", 192, size=3, padding=1, deviation=0.03, bias=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1, deviation=0.03, bias=1),
        MaxPool(3, 2),
        ReLU(),
        Dense("fc6", 4096, bias=1),
        ReLU(),
        Dropout(0.5),
        Dense("fc7", 4096, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc8"),
    ),
    reported="39.2 / 18.2 on ILSVRC-2010's test set",
    source="section 3.2; layers-145-half.cfg",
)

# Pooling without overlap; conv2 and conv5 lose a pixel of padding so that pool3 is 6 x 6 again.
NET147 = Architecture(
    name="net147",
    input_size=224,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 96, size=11, stride=4),
        NORM_2,
        MaxPool(2, 2),
        ReLU(),
        Convolution("conv2", 256, size=5, padding=1, bias=1),
        ReLU(),
        NORM_2,
        SPATIAL,
        MaxPool(2, 2),
        Exchange(),
        Convolution("conv3", 384, size=3, padding=1, deviation=0.03),
        ReLU(),
        Convolution("conv4", 384, size=3, padding=1, deviation=0.03, bias=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=0, deviation=0.03, bias=1),
        MaxPool(2, 2),
        ReLU(),
        Exchange(),
        Dense("fc6", 4096, bias=1),
        ReLU(),
        Dropout(0.5),
        Exchange(),
        Dense("fc7", 4096, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc8"),
    ),
    reported="41.1 / 18.5",
    source="section 3.4; layers-147.cfg",
)

# No normalisation of any kind.
NET148 = Architecture(
    name="net148",
    input_size=224,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 96, size=11, stride=4),
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 256, size=5, padding=2, bias=1),
        ReLU(),
        MaxPool(3, 2),
        Exchange(),
        Convolution("conv3", 384, size=3, padding=1, deviation=0.03),
        ReLU(),
        Convolution("conv4", 384, size=3, padding=1, deviation=0.03, bias=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1, deviation=0.03, bias=1),
        MaxPool(3, 2),
        ReLU(),
        Exchange(),
        Dense("fc6", 4096, bias=1),
        ReLU(),
        Dropout(0.5),
        Exchange(),
        Dense("fc7", 4096, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc8"),
    ),
    reported="42.0 / 19.4",
    source="section 3.3; layers-148.cfg",
)

# The towers meet at the softmax alone, and are wider in conv2 and fc6.
NET150 = Architecture(
    name="net150",
    input_size=224,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 96, size=11, stride=4),
        NORM_2,
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 320, size=5, padding=2, bias=1),
        ReLU(),
        NORM_2,
        SPATIAL,
        MaxPool(3, 2),
        Convolution("conv3", 384, size=3, padding=1, deviation=0.03),
        ReLU(),
        Convolution("conv4", 384, size=3, padding=1, deviation=0.03, bias=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1, deviation=0.03, bias=1),
        MaxPool(3, 2),
        ReLU(),
        Dense("fc6", 8192, bias=1),
        ReLU(),
        Dropout(0.5),
        Dense("fc7", 4096, bias=1),
        ReLU(),
        Dropout(0.5),
        Output("fc8"),
    ),
    reported="41.8 / 19.3",
    source="layers-150.cfg",
)

NETWORKS = (NET145_HALF, NET147, NET148, NET150)
