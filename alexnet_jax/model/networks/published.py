"""Networks that others call AlexNet, its literal text, and its successor of 2013.

Errors are top-1 / top-5 on ILSVRC-2012's validation set, of the centre crop unless said otherwise.
"""

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Dropout,
    Exchange,
    MaxPool,
    Output,
    ReLU,
    ResponseNorm,
)

# The constants of section 3.3 as printed: alpha multiplies the plain sum.
PAPER_NORM = ResponseNorm(n=5, k=2, alpha=1e-4, beta=0.75)
# Caffe's: alpha is divided by 5, the constant is 1, and windows reach across both towers.
CAFFE_NORM = ResponseNorm.caffe(local_size=5, alpha=1e-4, beta=0.75)

# The paper's text taken literally. Unlike net 145, which gave its numbers, it normalises after the
# ReLU in layer 1, does not divide alpha by 5, has no spatial normalisation after conv2 and draws
# all weights with deviation 0.01 (net 145: 0.03 in conv3-5). The 3 pixels of zeros that make 55 of
# 224 are in neither text.
PAPER = Architecture(
    name="paper",
    input_size=224,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 96, size=11, stride=4),
        ReLU(),
        PAPER_NORM,
        MaxPool(3, 2),
        Convolution("conv2", 256, size=5, padding=2, bias=1),
        ReLU(),
        PAPER_NORM,
        MaxPool(3, 2),
        Exchange(),
        Convolution("conv3", 384, size=3, padding=1),
        ReLU(),
        Convolution("conv4", 384, size=3, padding=1, bias=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1, bias=1),
        ReLU(),
        MaxPool(3, 2),
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
    source="sections 3 to 5 of the paper; never trained by its authors",
)

# Caffe's replication. Its group=2 convolutions are two towers, but for the norms.
BVLC_ALEXNET = Architecture(
    name="bvlc_alexnet",
    input_size=227,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 96, size=11, stride=4, floor=True),
        ReLU(),
        CAFFE_NORM,
        MaxPool(3, 2),
        Convolution("conv2", 256, size=5, padding=2, bias=0.1),
        ReLU(),
        CAFFE_NORM,
        MaxPool(3, 2),
        Exchange(),
        Convolution("conv3", 384, size=3, padding=1),
        ReLU(),
        Convolution("conv4", 384, size=3, padding=1, bias=0.1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1, bias=0.1),
        ReLU(),
        MaxPool(3, 2),
        Exchange(),
        Dense("fc6", 4096, deviation=0.005, bias=0.1),
        ReLU(),
        Dropout(0.5, scale_in_training=True),
        Exchange(),
        Dense("fc7", 4096, deviation=0.005, bias=0.1),
        ReLU(),
        Dropout(0.5, scale_in_training=True),
        Output("fc8"),
    ),
    reported="42.9 / 19.8",
    source="Caffe: models/bvlc_alexnet",
)

# The same with pooling before the norms, as in net 120, and biases of 1.
CAFFENET = Architecture(
    name="caffenet",
    input_size=227,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 96, size=11, stride=4, floor=True),
        ReLU(),
        MaxPool(3, 2),
        CAFFE_NORM,
        Convolution("conv2", 256, size=5, padding=2, bias=1),
        ReLU(),
        MaxPool(3, 2),
        CAFFE_NORM,
        Exchange(),
        Convolution("conv3", 384, size=3, padding=1),
        ReLU(),
        Convolution("conv4", 384, size=3, padding=1, bias=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1, bias=1),
        ReLU(),
        MaxPool(3, 2),
        Exchange(),
        Dense("fc6", 4096, deviation=0.005, bias=1),
        ReLU(),
        Dropout(0.5, scale_in_training=True),
        Exchange(),
        Dense("fc7", 4096, deviation=0.005, bias=1),
        ReLU(),
        Dropout(0.5, scale_in_training=True),
        Output("fc8"),
    ),
    reported="42.6 / 19.6",
    source="Caffe: models/bvlc_reference_caffenet",
)

# One tower without normalisation: what torchvision calls AlexNet.
ONE_WEIRD_TRICK = Architecture(
    name="one_weird_trick",
    input_size=224,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 64, size=11, stride=4, padding=2, floor=True),
        ReLU(),
        MaxPool(3, 2, floor=True),
        Convolution("conv2", 192, size=5, padding=2),
        ReLU(),
        MaxPool(3, 2, floor=True),
        Convolution("conv3", 384, size=3, padding=1),
        ReLU(),
        Convolution("conv4", 256, size=3, padding=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1),
        ReLU(),
        MaxPool(3, 2, floor=True),
        Dropout(0.5, scale_in_training=True),
        Dense("fc6", 4096),
        ReLU(),
        Dropout(0.5, scale_in_training=True),
        Dense("fc7", 4096),
        ReLU(),
        Output("fc8"),
    ),
    reported="43.5 / 20.9",
    source="torchvision alexnet, after arXiv 1404.5997",
)

# Zeiler and Fergus (arXiv 1311.2901): smaller windows and strides in layers 1 and 2. They give no
# constants for the contrast normalization across channels; those of the paper stand here.
ZFNET = Architecture(
    name="zfnet",
    input_size=224,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 96, size=7, stride=2, padding=1, floor=True),
        ReLU(),
        MaxPool(3, 2),
        PAPER_NORM,
        Convolution("conv2", 256, size=5, stride=2),
        ReLU(),
        MaxPool(3, 2),
        PAPER_NORM,
        Convolution("conv3", 384, size=3, padding=1),
        ReLU(),
        Convolution("conv4", 384, size=3, padding=1),
        ReLU(),
        Convolution("conv5", 256, size=3, padding=1),
        ReLU(),
        MaxPool(3, 2),
        Dense("fc6", 4096),
        ReLU(),
        Dropout(0.5),
        Dense("fc7", 4096),
        ReLU(),
        Dropout(0.5),
        Output("fc8"),
    ),
    reported="38.4 / 16.5 with ten views",
    source="arXiv 1311.2901, Figure 3 and Table 2",
)

NETWORKS = (PAPER, BVLC_ALEXNET, CAFFENET, ONE_WEIRD_TRICK, ZFNET)
