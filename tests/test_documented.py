"""Each command of the documents is run by a test, or a row says why not and what runs its like."""

import pytest
import test_howto
import test_tutorial
from conftest import ROOT
from documented import EXCUSED, commands, fits, row_of

TUTORIAL = [
    line for line in test_tutorial.commands() if not line.startswith(test_tutorial.ELSEWHERE)
]
RUN = {*test_howto.commands(), *TUTORIAL}
MOST = 4  # commands of one row


def test_every_command_is_run_or_says_why_not():
    found = commands()
    assert len(found) > 150
    left = {line: pages for line, pages in found.items() if line not in RUN and not row_of(line)}
    assert not left, "run it, or give it a row in tests/documented.py"


@pytest.mark.parametrize("start", EXCUSED)
def test_a_row_excuses_few_commands(start):
    """So a new command is not excused by chance."""
    assert sum(row_of(line) == start for line in commands() if line not in RUN) <= MOST


@pytest.mark.parametrize("start", EXCUSED)
def test_a_row_is_of_a_command_and_its_tests_are_there(start):
    assert any(fits(line, start) for line in commands()), "no page has this command any more"
    why, tests = EXCUSED[start]
    assert why
    for name in tests:
        assert (ROOT / f"tests/{name}.py").is_file()
