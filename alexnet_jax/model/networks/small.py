"""Networks for small images: cuda-convnet's for CIFAR-10, LeNet-5 and the quickstart's.

CIFAR-10 errors are top-1 on the test set, as the headers of the layer-params files have them.
Pooling windows hang over the edge and are clipped: 32 -> 16 -> 8 -> 4.
"""

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    AveragePool,
    Convolution,
    Dense,
    Dropout,
    Exchange,
    LocallyConnected,
    MaxPool,
    Output,
    ReLU,
    ResponseNorm,
    SpatialNorm,
    Tanh,
)

SPATIAL_3 = SpatialNorm.cuda_convnet(size=3, scale=5e-5, power=0.75)
ACROSS_9 = ResponseNorm.cuda_convnet(size=9, scale=1e-3, power=0.75)

CIFAR_18PCT = Architecture(
    name="cifar_18pct",
    input_size=32,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 32, size=5, padding=2, deviation=0.0001),
        MaxPool(3, 2),
        ReLU(),
        SPATIAL_3,
        Convolution("conv2", 32, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        SPATIAL_3,
        Convolution("conv3", 64, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        Output("fc10"),
    ),
    num_classes=10,
    reported="18",
    source="layers-18pct.cfg",
)

CIFAR_80SEC = Architecture(
    name="cifar_80sec",
    input_size=32,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 32, size=5, padding=2, deviation=0.0001),
        ReLU(),
        MaxPool(3, 2),
        Convolution("conv2", 32, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        Convolution("conv3", 64, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        Dense("fc64", 64, deviation=0.1),
        ReLU(),
        Output("fc10", deviation=0.1),
    ),
    num_classes=10,
    reported="26, in 80 seconds",
    source="layers-80sec.cfg",
)

# Both are taken to see the random crops of 24 pixels of cuda-convnet's cropped data provider with
# its default border of 4: 24 -> 12 -> 6.
CIFAR_13PCT = Architecture(
    name="cifar_13pct",
    input_size=24,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 64, size=5, padding=2, deviation=0.0001),
        ReLU(),
        MaxPool(3, 2),
        Convolution("conv2", 64, size=5, padding=2),
        ReLU(),
        MaxPool(3, 2),
        LocallyConnected("local3", 32, size=3, padding=1, deviation=0.04),
        ReLU(),
        LocallyConnected("local4", 32, size=3, padding=1, deviation=0.04),
        ReLU(),
        Output("fc10"),
    ),
    num_classes=10,
    reported="13",
    source="layers-conv-local-13pct.cfg",
)

CIFAR_11PCT = Architecture(
    name="cifar_11pct",
    input_size=24,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 64, size=5, padding=2, deviation=0.0001),
        ReLU(),
        MaxPool(3, 2),
        ACROSS_9,
        Convolution("conv2", 64, size=5, padding=2),
        ReLU(),
        ACROSS_9,
        MaxPool(3, 2),
        LocallyConnected("local3", 64, size=3, padding=1, deviation=0.04),
        ReLU(),
        LocallyConnected("local4", 32, size=3, padding=1, deviation=0.04),
        ReLU(),
        Output("fc10"),
    ),
    num_classes=10,
    reported="11",
    source="layers-conv-local-11pct.cfg of cuda-convnet",
)

# The four-layer network of the paper's Figure 1. Only its caption is published: four layers, ReLU
# against tanh, no regularisation. This is the closest of the authors' networks, their "19%" one.
FIGURE1_RELU = Architecture(
    name="figure1_relu",
    input_size=32,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 32, size=5, padding=2, deviation=0.0001),
        ReLU(),
        MaxPool(3, 2),
        Convolution("conv2", 32, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        Convolution("conv3", 64, size=5, padding=2),
        ReLU(),
        AveragePool(3, 2),
        Output("fc10"),
    ),
    num_classes=10,
    reported="25 on the training set, six times sooner than tanh",
    source="Figure 1; layers-19pct.cfg",
)

FIGURE1_TANH = Architecture(
    name="figure1_tanh",
    input_size=32,
    channels=3,
    towers=1,
    layers=(
        Convolution("conv1", 32, size=5, padding=2, deviation=0.0001),
        Tanh(),
        MaxPool(3, 2),
        Convolution("conv2", 32, size=5, padding=2),
        Tanh(),
        AveragePool(3, 2),
        Convolution("conv3", 64, size=5, padding=2),
        Tanh(),
        AveragePool(3, 2),
        Output("fc10"),
    ),
    num_classes=10,
    reported="25 on the training set",
    source="Figure 1",
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
        ResponseNorm.cuda_convnet(size=5, scale=1e-4, power=0.75, minimum_divisor=2),
        MaxPool(3, 2),
        ReLU(),
        Convolution("conv2", 64, size=5, padding=2, deviation=0.03),
        ReLU(),
        ResponseNorm.cuda_convnet(size=5, scale=1e-4, power=0.75, minimum_divisor=2),
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
    num_classes=10,
    source="made for the quickstart",
)


def lenet5(name: str, input_size: int, relu: bool) -> Architecture:
    """LeNet-5 (LeCun et al. 1998) for grey images of 32 pixels, or 28 padded by 2.

    Classic: LeCun's scaled tanh and mean pooling. ReLU: with max-pooling. Both use a softmax in
    place of the 1998 radial basis outputs, connect C3 to all feature maps, and pool without the two
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
        num_classes=10,
        reported="" if relu else "0.95 on MNIST, with the outputs of 1998",
        source="LeCun et al. 1998, Figure 2",
    )


NETWORKS = (
    CIFAR_18PCT, CIFAR_80SEC, CIFAR_13PCT, CIFAR_11PCT, FIGURE1_RELU, FIGURE1_TANH, QUICKSTART,
    lenet5("lenet5", 32, relu=False),
    lenet5("lenet5_relu", 32, relu=True),
    lenet5("lenet5_28", 28, relu=False),
    lenet5("lenet5_relu_28", 28, relu=True),
)  # fmt: skip
