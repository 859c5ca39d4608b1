"""Table 2 of the paper: what would run on ImageNet. Nothing here is run."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Member:
    """A network and the configs that train it, one after the other."""

    name: str
    configs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table, with the paper's errors on ILSVRC-2012's validation set."""

    name: str
    errors: str
    members: tuple[Member, ...]


NET145 = Member("imagenet", ("configs/imagenet.py",))
FIVE = (
    *(Member(name, (f"configs/net2012.py:{name}",))
      for name in ("net120_2012", "net131", "net135", "net137")),
    NET145,
)  # fmt: skip
NET146 = Member("net146", ("configs/net146.py:2009", "configs/net146.py:2011", "configs/net146.py"))
SECOND = Member("net146-seed1", ("configs/net146.py",))
TABLE2 = (
    Row("1 CNN", "40.7 / 18.2", (NET145,)),
    Row("5 CNNs", "38.1 / 16.4", FIVE),
    Row("1 CNN*", "39.0 / 16.6", (NET146,)),
    Row("7 CNNs*", "36.7 / 15.4", (*FIVE, NET146, SECOND)),
)


def table2_commands(path: str, workdirs: str) -> str:
    """The commands of each row: those that train, each once, then the one that evaluates."""
    lines = [
        "Table 2, ILSVRC-2012. Two cores would need six weeks for one network, and no GPU was at",
        "hand for so long; so these are only listed. Each command goes on where it was stopped.",
        "Net 146 is trained on the releases of Fall 2009 and 2011 first (prepared as imagenet2009",
        "and imagenet2011), net 145 before it; which five networks the paper has is inferred.",
    ]
    seen: set[str] = set()
    for row in TABLE2:
        lines += ["", f"{row.name}, {row.errors} in the paper"]
        for member in row.members:
            lines += _training(member, path, workdirs, seen)
        folders = ",".join(f"{workdirs}/{member.name}" for member in row.members)
        lines.append(f"  python -m alexnet_jax evaluate --workdir={folders} --views=ten")
    return "\n".join(lines)


def _training(member: Member, path: str, workdirs: str, seen: set[str]) -> Sequence[str]:
    if member.name in seen:
        return []
    seen.add(member.name)
    lines = []
    for config in member.configs:
        _, _, stage = config.partition(":")
        larger = config.startswith("configs/net146.py:")
        name = f"net146-{stage}" if larger else member.name
        start = _start(config, workdirs)
        words = [f"python -m alexnet_jax.main --config={config}", f"--workdir={workdirs}/{name}"]
        words += [] if larger else [f"--config.data.path={path}"]
        words += [f"--config.init.from_run={start}"] if start else []
        words += ["--config.seed=1"] if member.name.endswith("seed1") else []
        lines.append("  " + " ".join(words))
    return lines


def _start(config: str, workdirs: str) -> str:
    """The run from whose layers this one starts."""
    before = {"configs/net146.py:2009": "imagenet", "configs/net146.py:2011": "net146-2009",
              "configs/net146.py": "net146-2011"}  # fmt: skip
    return f"{workdirs}/{before[config]}" if config in before else ""
