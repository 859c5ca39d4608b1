"""The flags of each benchmark of python -m alexnet_jax benchmark, and the text of its --help."""

from alexnet_jax.benchmark.kernel_choices import NAMES
from alexnet_jax.benchmark.links import LINKS
from alexnet_jax.runtime.command_flags import Flags
from alexnet_jax.training import config_files


def input_pipeline(flags: Flags) -> None:
    """benchmark input --path=DIR[,DIR...]

    Images a second from the files of prepared sets to batches on the host, against bare
    libjpeg-turbo and a copy in memory in as many threads, and against PyTorch's DataLoader where
    that is installed. These take turns, so that a noisy machine is noisy for all; trust the ratios.
    """
    flags.string("path", None, "Prepared sets, DIR,DIR,...")
    flags.integer("batch_size", 128, "Images a batch.", at_least=1)
    flags.integer("num_workers", 0, "Threads or processes; 0: one a core.", at_least=0)
    flags.number("seconds", 2.0, "Length of each turn.")
    flags.integer("turns", 7, "Turns of each contestant.", at_least=1)
    _json(flags, "input")


def scaling(flags: Flags) -> None:
    """benchmark scaling [--network=NAME] [--devices=N,...]

    Step time and efficiency on 1 to 1,024 devices in the layouts data, towers and hybrid, from the
    speed of one device, which is measured here unless --images_per_second has it, the bytes on the
    wire and the speeds of links. A model, not a measurement; it prints what it assumes.
    docs/scaling.md explains it.
    """
    counts = ",".join(str(2**power) for power in range(11))
    flags.string("network", "net145", "Name of the network.")
    flags.string("layouts", "data,towers,hybrid", "Layouts to compare.")
    flags.string("devices", counts, "Numbers of devices.")
    flags.integer("devices_per_node", 8, "Devices of a node.")
    flags.string("inside", "nvlink4", f"Link inside a node: {', '.join(LINKS)}.")
    flags.string("between", "ndr400", "Link between nodes, one of the same.")
    flags.string("dtype", "float32", "Of activations: float32 or bfloat16.")
    flags.integer("batch_size", 128, "Images of a device.")
    flags.integer("global_batch_size", None, "Images of a step, whatever the devices.")
    flags.number(
        "images_per_second", None, "Of a training step on one device; unset: measured here."
    )
    flags.integer("steps", 5, "Steps that are timed.")
    _json(flags, "scaling")
    flags.string("plot", None, "Picture to write: .png, .svg or .pdf.")


def step(flags: Flags) -> None:
    """benchmark step [--network=NAME,...] [--batch_size=N,...] [--against=torch]

    The training step on one device: images a second, share of the machine's measured peak, time by
    layer, memory, and with --against=torch the same network in PyTorch, turn by turn.
    docs/performance.md explains it.
    """
    flags.string("network", "bvlc_alexnet", "Names of networks, or all.")
    flags.string("batch_size", "128", "Images a step; several between commas.")
    flags.string("dtype", "float32", "Of activations: float32 or bfloat16.")
    flags.integer("steps", 10, "Samples of each.")
    flags.string("against", None, "torch: the same network in PyTorch, turn by turn.")
    flags.string("torch_layouts", None, "Of PyTorch's arrays: channels_last,NCHW; unset: both.")
    flags.switch("inference", False, "The forward pass too.")
    flags.switch("by_layer", True, "Time of each layer; never with --network=all.")
    flags.string("kernels", None, f"In turn with the usual step: all, {', '.join(NAMES)}.")
    flags.number(
        "width", 1.0, "Factor on filters and units, to try the command; the peak is small then."
    )
    _json(flags, "step")


def train(flags: Flags) -> None:
    """benchmark train [--config=FILE] [--path=DIR|synthetic]

    The training loop with its data against its step alone, the share of time that the device waits
    for data, and the way to the first step. Every field of the config is a flag, as for train.
    Without --config it is the quickstart, or with a --path net 145 on ImageNet.
    """
    has_path = any(word.lstrip("-").partition("=")[0] == "path" for word in flags.argv[1:])
    default = config_files.find("imagenet" if has_path else "quickstart")
    flags.config("config", default, "Config's name or file, with options after a colon.")
    flags.string("path", None, "Folder of the data, or synthetic; unset: the config's.")
    flags.integer("steps", 20, "Steps of a turn.")
    _json(flags, "train")


def gpu(flags: Flags) -> None:
    """benchmark gpu --json=FILE

    Many cases of step on a GPU, the most important first, each written when done; out of time
    (--minutes) the same command goes on with what is missing.
    """
    flags.string("json", None, "File for a line of each case and a summary.")
    flags.number("minutes", 9.0, "Minutes until it stops.")
    flags.switch("tiny", False, "Tiny numbers, to try the command anywhere.")


def _json(flags: Flags, run: str) -> None:
    flags.string("json", None, "File of one JSON line a run, for all numbers of this one.")
    flags.string("run", run, "Name of the run, whose line in the file is replaced.")
