"""Show the networks: python -m alexnet_jax model [NAME] [--compare NAME] [--plot FILE].

Without a name all networks are listed with the error that their authors report; with one its layers
are shown as a table; `--compare` sets another network beside it; `--plot` draws it in the manner of
the paper's Figure 2.
"""

import argparse
import pathlib
import sys

from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    args, names = command_flags.parse(sys.argv, __doc__, _define_flags, arguments=True)
    if len(names) > 1:
        raise UserError(
            f"'{names[1]}' was not understood: name one network; --compare has another."
        )
    if not names and (args.compare or args.plot):
        raise UserError("Name the network to show: python -m alexnet_jax model NAME.")
    show(names[0] if names else None, args)


def _define_flags(flags: command_flags.Flags) -> None:
    flags.string("compare", None, "Name of another network, side by side.")
    flags.integer("num_classes", None, "By default as many as its authors had.", at_least=1)
    flags.string("plot", None, "Picture of it to write: .png, .svg or .pdf.")


def show(name: str | None, args: argparse.Namespace) -> None:
    """Print or draw what the flags ask for; without a name all networks are listed."""
    from alexnet_jax.model import summary
    from alexnet_jax.model.networks import NETWORKS, named
    from alexnet_jax.tools.model import drawing

    if name is None:
        print(listing(NETWORKS.values()))
        return
    network = named(name)
    num_classes = args.num_classes or network.num_classes
    if args.compare:
        print(summary.comparison(network, named(args.compare)))
    if args.plot:
        drawing.draw_network(network, num_classes, pathlib.Path(args.plot))
        print(f"Drawn: {args.plot}")
    if not (args.compare or args.plot):
        print(summary.full_table(network, num_classes))


def listing(networks) -> str:
    """A line for each network: name, parameters, reported error and its source."""
    from alexnet_jax.model import summary

    rows = [("network", "parameters", "reported error", "source")]
    for network in networks:
        count = summary.total(summary.summarize(network, network.num_classes)).parameters
        rows.append((network.name, f"{count:,}", network.reported, network.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  {error:<{widths[2]}}  {source}".rstrip()
        for name, count, error, source in rows
    )


if __name__ == "__main__":
    main()
