"""What lies beside the shards of a prepared set, put together from what was learnt of each."""

import collections
import hashlib
import itertools
import os
import pathlib

import numpy as np

from alexnet_jax.data import prepared, shards, statistics
from alexnet_jax.data.origins.origin import Origin
from alexnet_jax.data.shards import Outcome, Settings

Outcomes = dict[str, list[Outcome]]


def facts(origin: Origin, outcomes: Outcomes, settings: Settings) -> dict:
    """Contents of prepared.json: settings, classes and, of each split, shards and fingerprint."""
    splits = {}
    for name, parts in outcomes.items():
        digests = "\0".join([str(vars(settings)), *origin.classes, *(p.digest for p in parts)])
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


def write_arrays(folder: pathlib.Path, outcomes: Outcomes, facts: dict) -> None:
    """Labels and names of each split, and the statistics of the training split."""
    for name, parts in outcomes.items():
        labels = np.concatenate([part.labels for part in parts])
        np.save(prepared.labels_file(folder, name), labels)
        found = itertools.chain(*(part.names for part in parts))
        text = "".join(f"{one}\n" for one in found)
        prepared.names_file(folder, name).write_bytes(os.fsencode(text))
    parts = [part.sums for part in outcomes["train"]]
    total = statistics.Sums(
        images=sum(part.images for part in parts),
        pixels=sum(part.pixels for part in parts),
        products=sum(part.products for part in parts),
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


def report(origin: Origin, outcomes: Outcomes) -> dict:
    """Of each split: images found and written, images per class, and all oddities by name."""
    splits = {}
    for name, parts in outcomes.items():
        labels = np.concatenate([part.labels for part in parts])
        counts = np.bincount(labels[labels >= 0], minlength=len(origin.classes))
        per_class = dict(zip(_unique(origin.classes), counts.tolist(), strict=True))
        oddities = {
            word: sorted(itertools.chain(*(part.oddities[word] for part in parts)))
            for word in shards.KEPT + shards.LEFT_OUT
        }
        splits[name] = {
            "found": len(origin.splits[name]),
            "images": len(labels),
            "images_per_class": per_class if counts.any() else {},
            "oddities": oddities,
        }
    return {"splits": splits}


def _unique(names: tuple[str, ...]) -> list[str]:
    """Two classes of one name, such as ImageNet's two cranes, are told apart by a number."""
    seen: collections.Counter[str] = collections.Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
