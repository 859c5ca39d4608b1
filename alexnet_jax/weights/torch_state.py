"""Writes a state dict of PyTorch, with the names LAYER.weight and LAYER.bias or torchvision's."""

import io
import pathlib

from alexnet_jax.runtime.optional_imports import require_package
from alexnet_jax.weights import conventions, header, standard
from alexnet_jax.weights.trained import Trained

# torchvision.models.alexnet: the names of its layers with weights.
TORCHVISION = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip


def write_state_dict(path: pathlib.Path, trained: Trained) -> list[pathlib.Path]:
    """Write the state dict, and FILE.json with network, classes and pixels; returns both paths.

    Tensors are float32 in the layout of weights/standard.py. The network that is torchvision's gets
    torchvision's names: torchvision.models.alexnet().load_state_dict(torch.load(FILE)). Raises
    UserError where the layout can't hold the network, or PyTorch is missing.
    """
    with require_package("torch", f"Writing {path}"):
        import torch
    names = TORCHVISION if trained.variant.network == conventions.TORCHVISION else {}
    state = {}
    for layer, arrays in standard.to_standard(trained.architecture, trained.parameters).items():
        for kind, array in zip(("weight", "bias"), arrays, strict=True):
            state[f"{names.get(layer, layer)}.{kind}"] = torch.tensor(array, dtype=torch.float32)
    data = io.BytesIO()  # torch.save has its own exceptions for a full disk
    torch.save(state, data)
    with header.write_with_description(path, trained) as partial:
        partial.write_bytes(data.getbuffer())
    return [path, header.description_path(path)]
