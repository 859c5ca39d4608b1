"""What a run is: the settings that must stay the same when it goes on from a checkpoint."""

import json
import pathlib

from ml_collections import ConfigDict

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import defaults


def run_identity(config: ConfigDict, num_classes: int, fingerprint: str) -> dict:
    """{field: value}, values as JSON has them; `fingerprint` is that of the training data.

    Network, start, optimiser, seed, global batch and training data. Mesh, kernels, paths, end,
    logging, guards and checkpoint policy may change.
    """
    fields = json.loads(config.to_json_best_effort())
    model = fields["model"] | {"num_classes": num_classes}
    init = {name: value for name, value in fields["init"].items() if name != "from_run"}
    return {
        "seed": fields["seed"],
        "batch_size": fields["batch_size"],
        **{f"model.{name}": value for name, value in model.items()},
        **{f"init.{name}": value for name, value in init.items()},
        **{f"optimizer.{name}": value for name, value in fields["optimizer"].items()},
        "the fingerprint of the training data": fingerprint,
    }


def check_same_run(identity: dict, stored: dict, workdir: pathlib.Path) -> None:
    """UserError naming the first field in which `identity` differs from the run in `workdir`.

    A field of init or optimizer that did not exist yet when that run began had its default.
    """
    standard = run_identity(defaults.get_config(), 0, "").items()
    added = {name: value for name, value in standard if name.startswith(("init.", "optimizer."))}
    for name, value in (added | stored).items():
        if name in identity and identity[name] != value:
            raise UserError(
                f"{workdir} holds a run with other settings: {name} is {value} there and "
                f"{identity[name]} here. Choose another --workdir, or set it as it was; to start "
                f"from that run's parameters alone, add --config.init.from_run={workdir}."
            )
