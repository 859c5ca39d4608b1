"""What the documents name exists."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_each_test_that_is_named_exists_and_is_as_slow_as_is_said():
    text = (ROOT / "docs/reliability.md").read_text()
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)::(test_\w+)`(\*?)", text)
    assert len(named) > 50
    for file, test, star in named:
        source = (ROOT / "tests" / file).read_text()
        found = re.search(rf"\n((?:@[^\n]*\n(?: [^\n]*\n|\)[^\n]*\n)*)*)def {test}\(", source)
        assert found, f"{file} has no {test}"
        assert ("@pytest.mark.slow\n" in found[1]) == bool(star), f"{file}::{test}"
