"""The project's own configs by name: in an installed package, or in configs/ of a checkout."""

import difflib
import pathlib
import runpy
from collections.abc import Sequence
from typing import Any

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
    return file + colon + options


def load(name: str, options: str = "") -> Any:
    """The ConfigDict of the project's config of that name: what another one begins with."""
    return runpy.run_path(str(folder() / f"{name}.py"))["get_config"](options)


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
            words[number + 1] = find(words[number + 1])
    return words
