"""Figure 1 of the paper: a four-layer network on CIFAR-10 with ReLU, or with tanh.

    python -m alexnet_jax.main --config=configs/figure1.py --config.data.path=DIR

DIR is as for configs/cifar10.py. The figure counts epochs until the training error is 25%: six
times fewer with ReLU than with tanh (`:tanh`), each with the learning rate that suits it best and
without any regularisation. The learning rates below are the authors' for such a net with ReLU;
`python -m alexnet_jax reproduce figure1` chooses one for each. On two cores an epoch takes half a
minute by the speed of its steps. `:smoke` takes three steps.
"""

from alexnet_jax.training import defaults


def get_config(argument: str = ""):
    """The "19%" net of cuda-convnet without weight decay."""
    words = defaults.options(argument, ("tanh", "smoke"))
    config = defaults.get_config()
    config.model.network = "figure1_tanh" if "tanh" in words else "figure1_relu"
    config.name = config.model.network.replace("_", "-")
    config.num_epochs = 40.0
    defaults.cifar(config)
    config.optimizer.learning_rate = ((0, 1e-3),)
    config.optimizer.bias_learning_rate = ((0, 2e-3),)
    config.optimizer.weight_decay = 0.0
    return defaults.smoke(config) if "smoke" in words else config
