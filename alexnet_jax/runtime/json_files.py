"""Standard JSON, without NaN and infinity, in files that are written atomically."""

import json
import math
import os
import pathlib


def flatten(record: dict, prefix: str = "", separator: str = "/") -> list[tuple[str, object]]:
    """The leaves of nested dicts, each with the names on its path joined by the separator."""
    leaves = []
    for name, value in record.items():
        if isinstance(value, dict):
            leaves += flatten(value, f"{prefix}{name}{separator}", separator)
        else:
            leaves.append((prefix + name, value))
    return leaves


def as_json(content: dict | list, indent: int | None = None) -> str:
    """JSON text, with null for numbers that are not finite, which JSON lacks."""
    return json.dumps(finite(content), indent=indent, allow_nan=False)


def finite(content: object) -> object:
    """The content with None for every number in its dicts and sequences that is not finite."""
    match content:
        case dict():
            return {name: finite(value) for name, value in content.items()}
        case list() | tuple():
            return [finite(value) for value in content]
        case float() if not math.isfinite(content):
            return None
    return content


def write_json(path: pathlib.Path, content: dict | list) -> None:
    """Write a JSON file atomically."""
    replace_file(path, (as_json(content, indent=2) + "\n").encode())


def replace_file(path: pathlib.Path, content: bytes) -> None:
    """Write a file atomically: under a temporary name, then renamed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
