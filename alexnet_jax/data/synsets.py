"""The 1,000 synsets of ILSVRC-2012 with their words, for people to read.

The file beside this one has a line each, the WordNet number and the words, in the order of the
labels that Caffe, PyTorch and tensorflow-datasets give them; facts from the devkit of ILSVRC-2012.
"""

import collections
import functools
import pathlib
from collections.abc import Sequence

FILE = pathlib.Path(__file__).with_name("ilsvrc2012.txt")


@functools.cache
def ilsvrc2012() -> dict[str, str]:
    """{WordNet number: words}, in the order of the labels."""
    lines = FILE.read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def words(name: str) -> str:
    """A class that is called by its WordNet number in words; any other name as it is.

    The first of its words, or all where another class begins with the same: there are two cranes.
    """
    numbered = len(name) == 9 and name[0] == "n" and name[1:].isdigit()
    return _short().get(name, name) if numbered else name


@functools.cache
def _short() -> dict[str, str]:
    first = {number: text.split(",")[0] for number, text in ilsvrc2012().items()}
    times = collections.Counter(first.values())
    return {
        number: text if times[text] == 1 else ilsvrc2012()[number] for number, text in first.items()
    }


def find_class(classes: Sequence[str], wanted: str) -> int | None:
    """The label of the class that is called so, by its name or its words; None if none is."""
    for label, name in enumerate(classes):
        if wanted in (name, words(name)):
            return label
    return None
