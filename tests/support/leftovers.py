"""All that a run leaves in its folder, speeds and times apart, for comparison with another's."""

import collections
import hashlib
import json
import pathlib
import re
import struct

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

SPEEDS = ("images_per_second", "waiting_for_data")


def left_by(workdir: pathlib.Path) -> dict[str, list]:
    """{what: [(step, content), ...] in order}, of summary.json, metrics.jsonl, events and files."""
    summary = json.loads((workdir / "summary.json").read_text())
    for name in ("seconds", "git_commit"):  # of the last command alone
        summary.pop(name, None)
    for name in SPEEDS:
        del summary["training"][name]
    entries = {f"summary.json {name}": [(0, value)] for name, value in summary.items()}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        record = {name: value for name, value in json.loads(line).items() if name not in SPEEDS}
        lines = entries.setdefault(f"metrics.jsonl {record['split']}", [])
        lines.append((record.pop("step"), record))
    for path in [
        *workdir.glob("*"),
        *workdir.glob("checkpoints/*"),
        *workdir.glob("tensorboard/**/*"),
    ]:
        # A start of the command leaves a file of events; what is in them is compared below.
        name = re.sub(r"tfevents.*", "tfevents", path.relative_to(workdir).as_posix())
        entries[f"file {name}"] = [(0, "")]
    return entries | events_in(workdir / "tensorboard")


def events_in(folder: pathlib.Path) -> dict[str, list]:
    """{folder and tag: [(step, digest), ...]} of all files of events, by the time of writing."""
    entries = collections.defaultdict(list)
    for path in folder.rglob("events.out.tfevents.*"):
        part = path.parent.relative_to(folder).as_posix()
        for event in events_of(path):
            for value in event.summary.value:
                if not value.tag.startswith("speed/"):
                    entry = (event.wall_time, event.step, digest_of(value))
                    entries[f"tensorboard {part} {value.tag}"].append(entry)
    return {tag: [entry[1:] for entry in sorted(events)] for tag, events in entries.items()}


def events_of(path: pathlib.Path):
    """The events of a file, which has to be whole: length, checksum, event, checksum, ..."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if at + length + 16 > len(data):
            raise ValueError(f"{path} is cut off after {at} of {len(data)} bytes.")
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += length + 16


def digest_of(value) -> str:
    """Of a summary's content, without the time at which a session began."""
    plugin = value.metadata.plugin_data
    if plugin.plugin_name == "hparams":
        content = HParamsPluginData.FromString(plugin.content)
        content.session_start_info.start_time_secs = 0
        plugin.content = content.SerializeToString(deterministic=True)
    return hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()


def differences(ours: dict[str, list], theirs: dict[str, list]) -> list[str]:
    """A sentence for each thing of ours that is not as in theirs, or that a step has twice."""
    sentences = []
    for what in sorted({*ours, *theirs}):
        if what not in ours or what not in theirs:
            sentences.append(f"{what} is {'missing' if what in theirs else 'left over'}")
            continue
        steps = collections.Counter(step for step, _ in ours[what])
        sentences += [f"{what} has step {step} {n} times" for step, n in steps.items() if n > 1]
        if ours[what] != theirs[what] and max(steps.values()) == 1:
            pairs = dict(ours[what]), dict(theirs[what])
            differing = [
                s for s in sorted({*pairs[0], *pairs[1]}) if pairs[0].get(s) != pairs[1].get(s)
            ]
            step = differing[0] if differing else "none, but the order"
            sentences.append(
                f"{what} differs first at step {step}: "
                f"{pairs[0].get(step)} instead of {pairs[1].get(step)}"
            )
    return sentences
