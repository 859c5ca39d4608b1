"""The files beside the shards of a prepared set, made from the summaries of all its shards."""

import collections
import hashlib
import itertools
import os
import pathlib

import numpy as np

from alexnet_jax.data import prepared, shards, statistics
from alexnet_jax.data.origins.origin import Origin
from alexnet_jax.data.shards import Settings, ShardSummary

MAX_NAMED = 20  # images left out that report_text names; the report names all of them

Summaries = dict[str, list[ShardSummary]]  # of each split


def dataset_facts(origin: Origin, summaries: Summaries, settings: Settings) -> dict:
    """Content of prepared.json: settings, classes and, of each split, shards and fingerprint."""
    splits = {}
    for name, parts in summaries.items():
        digests = "\0".join(
            [str(vars(settings)), *origin.classes, *(part.digest for part in parts)]
        )
        splits[name] = {
            "images": sum(len(part.labels) for part in parts),
            "shards": [len(part.labels) for part in parts],
            "fingerprint": hashlib.sha256(digests.encode()).hexdigest()[:16],
        }
    return {
        **vars(settings),
        "source": {name: origin.facts[name] for name in ("kind", "where")},
        "classes": _unique(origin.classes),
        "class_words": origin.facts.get("class_words"),
        "ilsvrc_ids": origin.facts.get("ilsvrc_ids"),
        "splits": splits,
    }


def write_arrays(folder: pathlib.Path, summaries: Summaries, facts: dict) -> None:
    """Labels and names of each split, and the statistics of the training split."""
    for name, parts in summaries.items():
        labels = np.concatenate([part.labels for part in parts])
        np.save(prepared.labels_file(folder, name), labels)
        names = itertools.chain(*(part.names for part in parts))
        text = "".join(f"{image}\n" for image in names)
        prepared.names_file(folder, name).write_bytes(os.fsencode(text))
    sums = [part.sums for part in summaries["train"]]
    total = statistics.Sums(
        images=np.sum([part.images for part in sums], axis=0),
        pixels=np.sum([part.pixels for part in sums], axis=0),
        products=np.sum([part.products for part in sums], axis=0),
    )
    measured = statistics.from_sums(total, facts["splits"]["train"]["fingerprint"])
    measured.save(folder / prepared.STATISTICS)


def write_for_tfds(folder: pathlib.Path, facts: dict) -> None:
    """The files by which tfds.builder_from_directory opens the set."""
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        dataset_name=prepared.dataset_name(facts["name"]),
        filetype_suffix="array_record",
    )
    splits = []
    for name, split in facts["splits"].items():
        count = len(split["shards"])
        files = (prepared.shard_file(folder, facts["name"], name, i, count) for i in range(count))
        splits.append(
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=split["shards"],
                num_bytes=sum(pathlib.Path(file).stat().st_size for file in files),
                filename_template=template.replace(split=name),
            )
        )
    shape = (facts["size"], facts["size"], facts["channels"])
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape),
                "label": tfds.features.ClassLabel(names=facts["classes"]),
                "file_name": tfds.features.Text(),
            }
        ),
        split_infos=splits,
        filename_template=template,
        version=prepared.VERSION,
        check_data=False,
        description=f"{facts['name']}, prepared at {facts['size']} pixels ({facts['resize']}).",
    )


def make_report(origin: Origin, summaries: Summaries) -> dict:
    """Content of report.json: of each split images found and written, per class, and oddities."""
    splits = {}
    for name, parts in summaries.items():
        labels = np.concatenate([part.labels for part in parts])
        counts = np.bincount(labels[labels >= 0], minlength=len(origin.classes))
        per_class = dict(zip(_unique(origin.classes), counts.tolist(), strict=True))
        oddities = {
            word: sorted(itertools.chain(*(part.oddities[word] for part in parts)))
            for word in shards.KEPT_ODDITIES + shards.EXCLUDED
        }
        splits[name] = {
            "found": len(origin.splits[name]),
            "images": len(labels),
            "images_per_class": per_class if counts.any() else {},
            "oddities": oddities,
        }
    return {"splits": splits}


def report_text(report: dict) -> str:
    """A report for the terminal: a paragraph for each split."""
    lines = []
    for name, split in report["splits"].items():
        counts = sorted(split["images_per_class"].values())
        line = f"{name}: {split['images']:,} of {split['found']:,} images"
        if counts:
            low, middle, high = counts[0], counts[len(counts) // 2], counts[-1]
            line += f" in {len(counts):,} classes of {low:,} to {high:,}, median {middle:,}"
        lines.append(line)
        for word, names in split["oddities"].items():
            if names:
                shown = MAX_NAMED if word in shards.EXCLUDED else 2
                listed = ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
                lines.append(f"  {len(names):>7,} {word}: {listed}")
    lines.append(f"All names stand in {prepared.REPORT}.")
    return "\n".join(lines)


def _unique(names: tuple[str, ...]) -> list[str]:
    """The names, with a number where two classes have the same, such as ImageNet's two cranes."""
    seen: collections.Counter[str] = collections.Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
