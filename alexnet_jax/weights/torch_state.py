"""A state dict of PyTorch: tensors as LAYER.weight and LAYER.bias, or under torchvision's names."""

import json
import pathlib

from alexnet_jax.weights import header, standard, writing
from alexnet_jax.weights.optional import library
from alexnet_jax.weights.trained import Trained

# torchvision.models.alexnet: the places of its layers with weights.
TORCHVISION = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip


def write(path: pathlib.Path, trained: Trained) -> list[pathlib.Path]:
    """Write the state dict, and beside it FILE.json with network, classes and pixels.

    The network that is torchvision's gets torchvision's names. What was written is returned.
    UserError where the layout can't hold the network, or PyTorch is missing.
    """
    torch = library("torch", f"Writing {path}")
    names = TORCHVISION if trained.variant.network == "one_weird_trick" else {}
    state = {}
    for layer, parts in standard.to_standard(trained.architecture, trained.parameters).items():
        for kind, array in zip(("weight", "bias"), parts, strict=True):
            state[f"{names.get(layer, layer)}.{kind}"] = torch.tensor(array)
    with writing.whole(path) as partial:
        torch.save(state, partial)
    beside = path.with_name(path.name + ".json")
    about = header.header_of(trained)
    about |= {name: json.loads(about[name]) for name in header.FIELDS}
    about["mean"] = trained.pixels.mean.tolist()
    about["divisor"] = trained.pixels.divisor.tolist()
    with writing.whole(beside) as partial:
        partial.write_text(json.dumps(about, indent=1) + "\n")
    return [path, beside]
