"""The networks, as lists of layers to be compared by eye. Counts are over both towers."""

from alexnet_jax.model.layers import (
    AcrossMapNorm,
    AveragePool,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    MaxPool,
    Output,
    ReLU,
    SpatialNorm,
    Tanh,
)
from alexnet_jax.model.network import Architecture

# The network behind "1 CNN, 40.7% / 18.2%" of the paper's Table 2: layers-145.cfg and
# layer-params-145.cfg of the 2012 release. Unlike the paper's text it normalises conv1 before its
# ReLU, adds a spatial normalisation after conv2, divides alpha by 5 and draws conv3-5 wider.
NET145 = Architecture(
    name="net145",
    input_size=224,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 96, size=11, stride=4),
        AcrossMapNorm.cuda_convnet(size=5, scale=1e-4, power=0.75, minimum_divisor=2),
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 256, size=5, padding=2, bias=1),
        ReLU(),
        AcrossMapNorm.cuda_convnet(size=5, scale=1e-4, power=0.75, minimum_divisor=2),
        SpatialNorm.cuda_convnet(size=5, scale=1e-3, power=0.75),
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
)

# A miniature of net 145 for 28-pixel crops of small images: the same kinds of layers in the same
# order, with one convolution between the towers' exchanges instead of three.
QUICKSTART = Architecture(
    name="quickstart",
    input_size=28,
    channels=3,
    towers=2,
    layers=(
        Convolution("conv1", 32, size=5, stride=2, padding=2),
        AcrossMapNorm.cuda_convnet(size=5, scale=1e-4, power=0.75, minimum_divisor=2),
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 64, size=5, padding=2, deviation=0.03),
        ReLU(),
        AcrossMapNorm.cuda_convnet(size=5, scale=1e-4, power=0.75, minimum_divisor=2),
        SpatialNorm.cuda_convnet(size=5, scale=1e-3, power=0.75),
        MaxPool(3, 2),
        Exchange(),
        Convolution("conv3", 64, size=3, padding=1, deviation=0.05),
        ReLU(),
        Exchange(),
        Dense("fc6", 256, deviation=0.05),
        ReLU(),
        Dropout(0.5),
        Exchange(),
        Dense("fc7", 256, deviation=0.08),
        ReLU(),
        Dropout(0.5),
        Output("fc8", deviation=0.05),
    ),
)


# The net of cuda-convnet's "18% error in 20 minutes" on CIFAR-10: layers-18pct.cfg of the 2012
# release. Pooling windows hang over the edge and are clipped: 32 -> 16 -> 8 -> 4.
CIFAR_18PCT = Architecture(
    name="cifar_18pct",
    input_size=32,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 32, size=5, padding=2, deviation=0.0001),
        MaxPool(3, 2),
        ReLU(),
        SpatialNorm.cuda_convnet(size=3, scale=5e-5, power=0.75),
        Convolution("conv2", 32, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        SpatialNorm.cuda_convnet(size=3, scale=5e-5, power=0.75),
        Convolution("conv3", 64, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        Output("fc10"),
    ),
)


def lenet5(name: str, input_size: int, relu: bool) -> Architecture:
    """LeNet-5 (LeCun et al. 1998) for grey images of 32 pixels, or 28 padded by 2.

    Classic: LeCun's scaled tanh and mean pooling. ReLU: with max-pooling. Both use a softmax in
    place of the 1998 radial basis outputs, connect C3 to all maps, and pool without the two
    trained numbers a map. Deviations are 1 / sqrt(inputs of a unit).
    """
    activation = ReLU() if relu else Tanh(outer=1.7159, inner=2 / 3)
    pool = MaxPool(2, 2) if relu else AveragePool(2, 2)
    return Architecture(
        name=name,
        input_size=input_size,
        channels=1,
        towers=1,
        layers=(
            Convolution("conv1", 6, size=5, padding=(32 - input_size) // 2, deviation=25**-0.5),
            activation,
            pool,
            Convolution("conv2", 16, size=5, deviation=150**-0.5),
            activation,
            pool,
            Dense("fc3", 120, deviation=400**-0.5),
            activation,
            Dense("fc4", 84, deviation=120**-0.5),
            activation,
            Output("fc5", deviation=84**-0.5),
        ),
    )


NETWORKS = {
    "net145": NET145,
    "quickstart": QUICKSTART,
    "cifar_18pct": CIFAR_18PCT,
    "lenet5": lenet5("lenet5", 32, relu=False),
    "lenet5_relu": lenet5("lenet5_relu", 32, relu=True),
    "lenet5_28": lenet5("lenet5_28", 28, relu=False),
    "lenet5_relu_28": lenet5("lenet5_relu_28", 28, relu=True),
}
