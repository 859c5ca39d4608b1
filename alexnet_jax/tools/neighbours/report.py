"""What was found, as JSON and as a table."""

from collections.abc import Sequence

import numpy as np

from alexnet_jax.data import synsets
from alexnet_jax.tools.features.collection import NO_LABEL
from alexnet_jax.tools.features.files import Features


def class_names(features: Features) -> list[str | None]:
    """The class of each image in words; None where it is not known."""
    words = [synsets.words(name) for name in features.about["classes"]]
    return [None if label == NO_LABEL else words[label] for label in features.labels]


def content(
    features: Features,
    queries: Features,
    distances: np.ndarray,
    numbers: np.ndarray,
    left_out: bool,
) -> dict:
    """All that was found, for JSON; `numbers` and `distances` [queries, k] as search gives them."""
    theirs, ours = class_names(features), class_names(queries)
    found = []
    for number, name in enumerate(queries.names):
        pairs = zip(numbers[number].tolist(), distances[number].tolist(), strict=True)
        neighbours = [
            {"image": features.names[other], "class": theirs[other], "distance": distance}
            for other, distance in pairs
        ]
        found.append({"image": name, "class": ours[number], "neighbours": neighbours})
    return {
        "features": features.path,
        "queries": queries.path,
        "layer": features.about["layer"],
        "network": features.about["network"],
        "parameters_sha256": features.about["parameters_sha256"],
        "images": len(features),
        "k": numbers.shape[1],
        "leave_out_self": left_out,
        **_summary(found),
        "found": found,
    }


def _summary(found: list[dict]) -> dict:
    """How often neighbours are of the query's class, over the queries whose class is known."""
    same = [
        [neighbour["class"] == one["class"] for neighbour in one["neighbours"]]
        for one in found
        if one["class"] is not None
    ]
    summary: dict[str, float] = {"labelled_queries": len(same)}
    if same:
        summary["nearest_of_same_class"] = float(np.mean([row[0] for row in same]))
        summary["neighbours_of_same_class"] = float(np.mean(same))
    return summary


def spread(count: int, most: int) -> list[int]:
    """Up to `most` of `count` numbers, evenly from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def table(record: dict, chosen: Sequence[int]) -> str:
    """Some queries with their neighbours, and what holds for all."""
    lines = []
    for number in chosen:
        one = record["found"][number]
        lines.append(_named(one))
        lines += [f"  {other['distance']:10.4g}  {_named(other)}" for other in one["neighbours"]]
    count, layer = len(record["found"]), record["layer"]
    text = f"{count:,} queries in {record['images']:,} images, {layer} of {record['network']}"
    if len(chosen) < count:
        text += f" ({len(chosen)} of them above)"
    if record["labelled_queries"]:
        text += (
            f"; of {record['labelled_queries']:,} whose class is known, "
            f"{record['nearest_of_same_class']:.1%} have a nearest neighbour of their class, and "
            f"{record['neighbours_of_same_class']:.1%} of all {record['k']} are of it"
        )
    return "\n".join([*lines, text + "."])


def _named(one: dict) -> str:
    return one["image"] if one["class"] is None else f"{one['image']}  ({one['class']})"
