"""Convert weights: python -m alexnet_jax convert FILE|--workdir=DIR --to=OUT [--network=NAME].

FILE is Caffe's .caffemodel, PyTorch's state dict, safetensors, ONNX, or a checkpoint of
cuda-convnet, the program of 2012; its content tells which. The ending of OUT says what it becomes:
.safetensors (with network and preprocessing), .onnx, .pth or .pt, .stablehlo; a name without one of
these becomes a folder that other commands take as --workdir.
"""

import argparse
import pathlib
import sys

from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError

ENDINGS = (".safetensors", ".onnx", ".pth", ".pt", ".stablehlo")
# What a file may not say itself.
FILE_FLAGS = ("network", "mean", "class_names")
REMARKS = {"weights": "name the file of weights without a flag, as in convert FILE --to=OUT."}


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    args, files = command_flags.parse(
        sys.argv, __doc__, _define_flags, arguments=True, remarks=REMARKS
    )
    if len(files) + (args.workdir is not None) != 1:
        raise UserError(
            "Convert what? Name one file of weights, or a training run with --workdir=DIR."
        )
    if not args.to:
        raise UserError(
            f"Convert into what? Add --to=OUT, which ends in {', '.join(ENDINGS)}, or not at all "
            "for a folder like a training run's."
        )
    named = [name for name in FILE_FLAGS if getattr(args, name) is not None]
    if args.workdir and named:
        raise UserError(f"A training run knows all itself: leave --{named[0]} out.")
    if args.step and not args.workdir:
        raise UserError("--step names a checkpoint of a run: leave it out.")
    if pathlib.Path(args.to).suffix in ENDINGS:
        cli.check_output("to", args.to)
    elif pathlib.Path(args.to).exists():
        raise UserError(f"--to={args.to} exists already: name another folder, or take it away.")
    cli.alone(lambda: _run(args, files))


def _define_flags(flags: command_flags.Flags) -> None:
    flags.string("to", None, "File or folder that is written.")
    flags.string("network", None, "Its name, where the file does not tell it.")
    flags.string("mean", None, "File with the mean of the training images, if needed.")
    flags.string("class_names", None, "File with the names of the classes, one a line, in order.")
    flags.string("workdir", None, "Folder of a training run instead of a file.")
    flags.string("step", None, "best, latest or a number; unset: best if it was kept.")
    flags.code()
    flags.switch(
        "prove", True, "Compare with the program that the file comes from, if it is installed."
    )


def _run(args: argparse.Namespace, files: list[str]) -> None:
    from alexnet_jax.tools import load
    from alexnet_jax.tools.convert import proof, run_folder
    from alexnet_jax.training.train_state import parameters_sha256
    from alexnet_jax.weights.files import (
        FileKind,
        detect_kind,
        read_weights,
        resolve_checkpoint,
    )

    kind = None
    if args.workdir:
        trained = load.from_run(pathlib.Path(args.workdir), args.step)
    else:
        kind = detect_kind(resolve_checkpoint(pathlib.Path(files[0])))
        trained = read_weights(pathlib.Path(files[0]), _user_hints(args, kind is FileKind.NATIVE))
    count = sum(array.size for kinds in trained.parameters.values() for array in kinds.values())
    changed = f", {trained.variant.width:g} times as wide" if trained.variant.width != 1 else ""
    print(f"Read       {trained.name}" + (f", {kind.value}" if kind else ""))
    print(f"Network    {trained.variant.network}{changed}, {count:,} parameters")
    names = trained.classes
    print(f"Classes    {len(names):,}: {', '.join(names[:3])}{', ...' if names[3:] else ''}")
    print(f"SHA-256    {parameters_sha256(trained.parameters)}")
    assumed = (
        " (what the file does not say is its program's convention)"
        if kind not in (None, FileKind.NATIVE)
        else ""
    )
    seen = run_folder.describe_preprocessing(trained.pixels, trained.architecture.channels)
    print(f"Images     {seen}{assumed}", flush=True)
    if kind and args.prove:
        comparison = proof.compare_logits(resolve_checkpoint(pathlib.Path(files[0])), kind, trained)
        if comparison:
            program, difference, spread = comparison
            print(f"Proof      {program}'s logits differ by up to {difference:.1e}; they spread by "
                  f"{spread:.3g}")  # fmt: skip
    for path in _write(pathlib.Path(args.to), trained):
        print(f"Written    {path}", flush=True)


def _user_hints(args: argparse.Namespace, is_native: bool):
    """The hints of the flags for the file; UserError for a file that needs none."""
    from alexnet_jax.model.networks import Variant
    from alexnet_jax.weights.user_hints import UserHints

    named = [name for name in FILE_FLAGS if getattr(args, name) is not None]
    if is_native and named:
        raise UserError(f"Safetensors of this program tell all themselves: leave --{named[0]} out.")
    if args.network:
        Variant(args.network).architecture()
    return UserHints(
        variant=Variant(args.network) if args.network else None,
        mean=pathlib.Path(args.mean) if args.mean else None,
        classes=_names(pathlib.Path(args.class_names)) if args.class_names else None,
    )


def _names(path: pathlib.Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--class_names={path} can't be read as text: {error}.") from error
    return tuple(line.strip() for line in lines if line.strip())


def _write(path: pathlib.Path, trained) -> list[pathlib.Path]:
    """Write what the ending of `path` says; what was written."""
    match path.suffix:
        case ".safetensors":
            from alexnet_jax.weights import safetensors

            safetensors.write_safetensors(path, trained)
        case ".onnx":
            from alexnet_jax.weights import onnx_model

            onnx_model.write_onnx(path, trained)
        case ".pth" | ".pt":
            from alexnet_jax.weights import torch_state

            return torch_state.write_state_dict(path, trained)
        case ".stablehlo":
            from alexnet_jax.tools.convert import stablehlo

            return stablehlo.write_stablehlo(path, trained)
        case _:
            from alexnet_jax.tools.convert import run_folder

            run_folder.write_run_folder(path, trained)
    return [path]


if __name__ == "__main__":
    main()
