"""The 1,000 synsets of ILSVRC-2012 and their words.

Each line of the file beside this one has a WordNet number and its words, in the order of the labels
of Caffe, PyTorch and tensorflow-datasets. Source: the devkit of ILSVRC-2012.
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
    """The words of a class that is named by its WordNet number; any other name as it is.

    The first of the words, or all where two classes have the same first one: there are two cranes.
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
    """The label of the class with this name or these words; None if there is none."""
    for label, name in enumerate(classes):
        if wanted in (name, words(name)):
            return label
    return None
