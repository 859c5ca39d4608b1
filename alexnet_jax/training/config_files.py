"""The project's own configs by name: in an installed package, or in configs/ of a checkout."""

import difflib
import pathlib
import runpy
from collections.abc import Sequence
from typing import Any

from alexnet_jax.runtime import user_code, xla_flags
from alexnet_jax.runtime.errors import UserError

PACKAGE = pathlib.Path(__file__).parent.parent


def folder() -> pathlib.Path:
    """Where the configs lie: a wheel carries them inside the package."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def names() -> list[str]:
    """The names of all configs, sorted."""
    return sorted(path.stem for path in folder().glob("[!_]*.py"))


def find(value: str) -> str:
    """FILE[:OPTIONS] of a flag --config, whose value is that or NAME[:OPTIONS].

    A file that exists comes before a config of that name. UserError where there is neither.
    """
    file, colon, options = value.partition(":")
    if not pathlib.Path(file).is_file():
        name = file.removeprefix("configs/").removesuffix(".py")
        if name not in names() or file not in (name, f"{name}.py", f"configs/{name}.py"):
            near = difflib.get_close_matches(name, names(), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"There is no config file '{file}': {hint}Expected one of the names "
                f"{', '.join(names())}, or a file of your own."
            )
        file = str(folder() / f"{name}.py")
    elif pathlib.Path(file).resolve().parent != folder().resolve():
        xla_flags.configure_xla()  # before a file of the user's own imports jax
    return file + colon + options


def load(name: str, options: str = "") -> Any:
    """The ConfigDict of the project's config of that name: what another one begins with."""
    return runpy.run_path(str(folder() / f"{name}.py"))["get_config"](options)


def set_network(config: Any, argv: Sequence[str]) -> None:
    """Give `config` the network of its file's get_network(), if there is one.

    `argv` is the command line that named the file. UserError where that names a network too, or
    where the list of layers can't be built.
    """
    words = [word for word in argv[1:] if word.startswith(("--config=", "-config="))]
    file, _, options = words[-1].partition("=")[2].partition(":") if words else ("", "", "")
    if not file or "get_network" not in pathlib.Path(file).read_text(encoding="utf-8"):
        return
    module = user_code.load(file)
    if not hasattr(module, "get_network"):
        return
    if any("config.model.network" in word or "config.model.layers" in word for word in argv[1:]):
        raise UserError(
            f"--config.model.network names a network, but {file} defines one by get_network(): "
            "leave one of the two."
        )
    from alexnet_jax.model import network_json

    architecture = module.get_network(options) if options else module.get_network()
    config.model.network = architecture.name
    config.model.layers = network_json.to_json(architecture)


def with_files(argv: Sequence[str]) -> list[str]:
    """A command line whose --config names a file. UserError as for `find`."""
    words = list(argv)
    for number, word in enumerate(words[1:], start=1):
        flag, equals, value = word.partition("=")
        if flag.lstrip("-") != "config" or not flag.startswith("-"):
            continue
        if equals:
            words[number] = f"{flag}={find(value)}"
        elif number + 1 < len(words):
            words[number : number + 2] = [f"{flag}={find(words[number + 1])}"]
    return words
