"""Twenty kills; `make faults` runs two hundred."""

from pathlib import Path

import pytest

from tests.faults.kills import KINDS, Tally, run
from tests.faults.proof import Broken, nowhere


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_acknowledged_outlives_a_kill_and_what_was_erased_does_not_come_back(tmp_path: Path) -> None:
    tally = Tally()
    run(20, seed=20261125, folder=tmp_path, tally=tally)
    assert tally.kills == 20
    assert sum(tally.within[kind] for kind in KINDS) >= 10, tally.table()  # else the kills prove little


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 5, 6, 7, 9, 976])
def test_bytes_that_were_erased_are_found_wherever_they_lie(tmp_path: Path, place: int) -> None:
    """Else no kill would prove anything."""
    needle, others = bytes(range(100, 124)), {bytes([n, *range(20)]) for n in range(100)}
    content = bytearray(1000)
    nowhere(tmp_path, {needle})
    content[place : place + len(needle)] = needle
    (tmp_path / "file").write_bytes(content)
    nowhere(tmp_path, others)
    with pytest.raises(Broken, match=f"is at {place} of file"):
        nowhere(tmp_path, {needle, *others})
