"""The neighbours of all queries, as JSON and as a table."""

from collections.abc import Sequence

import numpy as np

from alexnet_jax.data import synsets
from alexnet_jax.tools.features.collection import NO_LABEL
from alexnet_jax.tools.features.files import Features


def image_classes(features: Features) -> list[str | None]:
    """The class of each image in words; None where it is not known."""
    words = [synsets.words(name) for name in features.metadata["classes"]]
    return [None if label == NO_LABEL else words[label] for label in features.labels]


def neighbours_record(
    features: Features,
    queries: Features,
    distances: np.ndarray,
    indices: np.ndarray,
    left_out: bool,
) -> dict:
    """All neighbours for JSON; `indices`, `distances` [queries, k] as of nearest_neighbours."""
    feature_classes, query_classes = image_classes(features), image_classes(queries)
    results = []
    for query, name in enumerate(queries.names):
        pairs = zip(indices[query].tolist(), distances[query].tolist(), strict=True)
        neighbours = [
            {"image": features.names[other], "class": feature_classes[other], "distance": distance}
            for other, distance in pairs
        ]
        results.append({"image": name, "class": query_classes[query], "neighbours": neighbours})
    return {
        "features": features.path,
        "queries": queries.path,
        "layer": features.metadata["layer"],
        "network": features.metadata["network"],
        "parameters_sha256": features.metadata["parameters_sha256"],
        "images": len(features),
        "k": indices.shape[1],
        "leave_out_self": left_out,
        **_summary(results),
        "found": results,
    }


def _summary(results: list[dict]) -> dict:
    """How often neighbours are of the query's class, over the queries whose class is known."""
    same = [
        [neighbour["class"] == result["class"] for neighbour in result["neighbours"]]
        for result in results
        if result["class"] is not None
    ]
    summary: dict[str, float] = {"labelled_queries": len(same)}
    if same:
        summary["nearest_of_same_class"] = float(np.mean([matches[0] for matches in same]))
        summary["neighbours_of_same_class"] = float(np.mean(same))
    return summary


def evenly_spaced(count: int, most: int) -> list[int]:
    """Up to `most` of `count` numbers, evenly from the first to the last."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(count, most))})


def neighbours_table(record: dict, chosen: Sequence[int]) -> str:
    """Some queries with their neighbours, and what holds for all."""
    lines = []
    for query in chosen:
        result = record["found"][query]
        lines.append(_named(result))
        lines += [f"  {other['distance']:10.4g}  {_named(other)}" for other in result["neighbours"]]
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


def _named(entry: dict) -> str:
    return entry["image"] if entry["class"] is None else f"{entry['image']}  ({entry['class']})"
