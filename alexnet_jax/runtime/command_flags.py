"""The flags of a command: defined by name, parsed once, a wrong one answered with the one meant.

Importing this imports neither jax nor NumPy, so that --help answers at once.
"""

import argparse
import difflib
import textwrap
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from alexnet_jax.runtime import cli, user_code
from alexnet_jax.runtime.errors import UserError

HELP_WIDTH = 98
# Names that people give to a flag, from other programs of the field.
SYNONYMS = {
    "batch_size": ("batch", "bs", "b", "images"),
    "class_names": ("classes", "labels", "names"),
    "code": ("plugin", "plugins", "user_dir", "import"),
    "global_batch_size": ("global_batch",),
    "image_size": ("size", "resolution", "resize_size", "side"),
    "json": ("results", "report", "log"),
    "k": ("neighbours", "neighbors", "n", "top", "topk"),
    "member_weights": ("weights", "shares"),
    "network": ("model", "arch", "architecture", "net"),
    "num_classes": ("classes", "nclasses"),
    "num_workers": ("workers", "threads", "processes", "jobs", "j"),
    "output": ("out", "o", "to", "save", "file"),
    "path": ("data", "data_dir", "dataset", "data_path", "root", "images"),
    "plot": ("figure", "picture", "draw"),
    "processes": ("num_processes", "nproc", "world_size"),
    "process": ("process_id", "rank"),
    "coordinator": ("coordinator_address", "master_addr"),
    "source": ("data", "path", "data_dir", "dataset", "from", "input"),
    "step": ("checkpoint_step", "epoch"),
    "step_size": ("rate", "lr", "learning_rate"),
    "steps": ("num_steps", "iterations"),
    "to": ("output", "out", "o"),
    "top": ("k", "topk", "top_k"),
    "views": ("crops", "tta"),
    "weights": ("checkpoint", "ckpt", "model", "params", "parameters", "pretrained", "resume"),
    "workdir": ("logdir", "log_dir", "run", "run_dir", "model_dir", "output_dir", "checkpoint_dir",
                "dir", "out", "output"),
}  # fmt: skip


class Flags:
    """Defines the flags of one command; `parse` fills them."""

    def __init__(self, argv: Sequence[str]):
        self.argv = list(argv)
        self.values = flags.FlagValues()
        self.values.set_gnu_getopt(True)  # flags may follow other words

    def string(self, name: str, default: str | None, help: str) -> None:
        """A flag with one word."""
        flags.DEFINE_string(name, default, help, flag_values=self.values)

    def strings(self, name: str, default: Sequence[str], help: str) -> None:
        """A flag with words between commas, which are a list."""
        flags.DEFINE_list(name, list(default), help, flag_values=self.values)

    def integer(
        self,
        name: str,
        default: int | str | None,
        help: str,
        *,
        at_least: int | None = None,
        at_most: int | None = None,
    ) -> None:
        """A flag with a whole number."""
        flags.DEFINE_integer(
            name, default, help, lower_bound=at_least, upper_bound=at_most, flag_values=self.values
        )

    def number(
        self,
        name: str,
        default: float | str | None,
        help: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """A flag with a floating-point number."""
        flags.DEFINE_float(
            name, default, help, lower_bound=at_least, upper_bound=at_most, flag_values=self.values
        )

    def choice(self, name: str, default: str | None, choices: Sequence[str], help: str) -> None:
        """A flag with one of some words."""
        flags.DEFINE_enum(name, default, list(choices), help, flag_values=self.values)

    def switch(self, name: str, default: bool | None, help: str) -> None:
        """A flag that is on as --NAME and off as --noNAME."""
        flags.DEFINE_bool(name, default, help, flag_values=self.values)

    def config(self, name: str, default: str, help: str) -> None:
        """A flag with a config file; the fields of the config are flags too, as --NAME.FIELD."""
        from ml_collections import config_flags

        # Already here ml_collections reads the command line and complains of unknown fields.
        config_flags.DEFINE_config_file(
            name, default, help, flag_values=self.values, sys_argv=self.argv
        )

    def trained_network(self) -> None:
        """The flags that name a trained network; tools.load.from_flags opens it."""
        self.string("workdir", None, "Folder of a training run.")
        self.string("step", None, "best, latest or a number; unset: best if it was kept.")
        self.string("weights", None, "File of weights instead of a run.")
        self.code()

    def code(self) -> None:
        """The flag that names Python files of the user's own; `parse` runs them."""
        self.strings("code", [], "Python files that register what is your own; they are run.")

    def views(self) -> None:
        """The flag that says which crops of an image are averaged."""
        help = "center; ten: corners, center and their mirror images; all: every place of the crop."
        self.choice("views", "center", ["center", "ten", "all"], help)


def parse(
    argv: Sequence[str],
    usage: str,
    define: Callable[[Flags], None],
    *,
    hint: str = "",
    arguments: bool = False,
    synonyms: Mapping[str, str] | None = None,
    remarks: Mapping[str, str] | None = None,
) -> tuple[argparse.Namespace, list[str]]:
    """(flags by name, other words) of a command line; --help prints `usage` and all flags.

    `define` defines the command's flags. Words that are no flags are a mistake unless the command
    takes `arguments`. `synonyms` has the flags that are meant by others, beside SYNONYMS, and
    `remarks` a sentence for flags that mean something else here. UserError for any mistake, with
    `hint` after it.
    """
    own = Flags(argv)
    try:
        define(own)
        if set(cli.HELP_FLAGS) & set(argv[1:]):
            cli.print_help(f"{usage.rstrip()}\n\n{_help(own.values)}")
        words = own.values(list(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        raise UserError(_unknown(name, own.values, synonyms or {}, remarks or {})) from error
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{_sentence(error, synonyms or {})}{hint}") from error
    if words and not arguments:
        raise UserError(f"'{words[0]}' was not understood: flags look like --name=value.")
    # Libraries that log by absl wait for the flags of all.
    flags.FLAGS.mark_as_parsed()
    values = {name: own.values[name].value for name in own.values if "." not in name}
    user_code.load_all(own.values["code"].value or () if "code" in own.values else ())
    return argparse.Namespace(**values), words


def _help(values: flags.FlagValues) -> str:
    """Each flag with its choices, help and default, by name."""
    lines = []
    for name in sorted(values):
        flag = values[name]
        if flag.boolean:
            lines.append(f"  --[no]{name}")
        else:
            kind = getattr(flag.parser, "enum_values", None) or [_kind(flag)]
            lines.append(f"  --{name}={'|'.join(kind)}")
        default = "" if flag.default in (None, [], "") else f" (default: {_default(flag)})"
        lines += textwrap.wrap(
            f"{_without_choices(flag.help)}{default}",
            HELP_WIDTH,
            initial_indent=" " * 6,
            subsequent_indent=" " * 6,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)


def _kind(flag: flags.Flag) -> str:
    kinds = {"int": "N", "float": "X", "string": "TEXT", "comma separated list of strings": "A,B"}
    return kinds.get(flag.flag_type(), "FILE")


def _default(flag: flags.Flag) -> str:
    if flag.boolean:
        return "on" if flag.default else "off"
    return str(flag.default_as_str).strip("'")


def _without_choices(help: str) -> str:
    """Without the choices that absl puts before the text of a flag."""
    return help.partition(">: ")[2] if help.startswith("<") else help


def _unknown(
    name: str, values: flags.FlagValues, synonyms: Mapping[str, str], remarks: Mapping[str, str]
) -> str:
    """What is said of a flag that the command does not have."""
    if name in remarks:
        return f"There is no flag --{name} here: {remarks[name]}"
    meant = _meant(name.lower().replace("-", "_"), list(values), synonyms)
    hint = f"did you mean --{meant}?" if meant else "--help lists all flags."
    return f"There is no flag --{name}: {hint}"


def _meant(name: str, own: Sequence[str], synonyms: Mapping[str, str]) -> str | None:
    """The flag of the command that is meant by an unknown one."""
    if name in synonyms:
        return synonyms[name]
    for flag in own:
        if name in SYNONYMS.get(flag, ()):
            return flag
    if name.startswith("no_") and name[3:] in own:
        return f"no{name[3:]}"
    return next(iter(difflib.get_close_matches(name, own, n=1)), None)


def _sentence(error: BaseException, synonyms: Mapping[str, str]) -> str:
    """One line of what went wrong first; the libraries wrap it several times."""
    flag = str(error).split(":")[0] + ": " if isinstance(error, flags.Error) else ""
    while error.__context__ is not None and not isinstance(error.__context__, KeyError):
        error = error.__context__
    if isinstance(error, flags.Error):
        flag = ""
    text = str(error)
    if isinstance(error, AttributeError):
        flag, text = "the config has no field ", str(getattr(error.args[0], "args", [text])[0])
        field = text.split("'")[1] if text.count("'") > 1 else ""
        if field in synonyms:
            return f"the config has no field '{field}': did you mean --{synonyms[field]}?"
    return flag + " ".join(text.split())
