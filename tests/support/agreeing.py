"""Ten steps of the quickstart in float64 and one in float32, in every layout that fits the devices.

With evaluations, the plateau rule, pictures and histograms.

    python -m tests.support.agreeing FOLDER

leaves FOLDER/LAYOUT-DTYPE with the metrics and the checkpoint of each run. Started in several
processes it is one run of all of them, as alexnet_jax.main would be.
"""

import os
import pathlib
import sys

STEPS = {"float64": 10, "float32": 1}
WIDTH = 0.75  # of the network, the least at which each of its kernels is still in use


def quickstart(layout, dtype):
    """The quickstart's config, cut to a few steps with a line for each."""
    from tests.training.test_plan import load

    config = load("quickstart")
    config.parallel.layout = layout
    config.model.param_dtype = config.model.dtype = dtype
    config.num_steps = STEPS[dtype]
    config.model.width, config.batch_size = WIDTH, 16
    config.log.every_steps = 1
    config.data.num_workers = 1
    config.log.pictures_every_steps = config.log.histograms_every_steps = 4
    config.evaluate.every_steps = 2
    config.optimizer.schedule = "plateau"
    config.optimizer.plateau.patience = 1
    config.optimizer.learning_rate = ((0, 0.01),)
    config.optimizer.bias_learning_rate = ((0, 0.02),)
    return config


def main(folder):
    from alexnet_jax.runtime import xla_flags

    xla_flags.configure_xla()
    import jax

    from alexnet_jax.parallel import cluster, processes
    from alexnet_jax.training.layouts import LAYOUTS, layout_conflict
    from alexnet_jax.training.loop import train_and_evaluate
    from alexnet_jax.training.plan import architecture_of

    member = cluster.resolve_membership(
        "none",
        coordinator=os.environ["COORDINATOR_ADDRESS"],
        num_processes=int(os.environ["NUM_PROCESSES"]),
        process_id=int(os.environ["PROCESS_ID"]),
        environment=os.environ,
    )
    with processes.distributed_run(member, 100):
        for layout in LAYOUTS:
            for dtype in STEPS:
                config = quickstart(layout, dtype)
                if not layout_conflict(layout, architecture_of(config), jax.device_count()):
                    with jax.enable_x64(dtype == "float64"):
                        train_and_evaluate(config, folder / f"{layout}-{dtype}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
