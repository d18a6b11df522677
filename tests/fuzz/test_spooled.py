"""Altered files of a spool are read, or refused in one line; nothing else is raised."""

from collections.abc import Callable

import pytest
from mutation import all_hold, behind_its_footer, bounded_memory, many

from tests.monitoring.logged import file_of, row
from visionops_assets.monitoring.spool_files import UnusableFile, spool_reader

pytestmark = pytest.mark.timeout(2700)


def read_or_refused(data: bytes) -> None:
    try:
        spool_reader().read(data, "classification")
    except UnusableFile as refused:
        assert len(str(refused).splitlines()) == 1 and len(str(refused)) < 600


def test_altered_files_of_a_spool_are_read_or_refused(count: Callable[[int, int], int]):
    content = file_of(*map(row, range(20)))
    assert len(spool_reader().read(content, "classification").rows) == 20
    inputs = many(6, count(100, 10_000), [content], within=behind_its_footer(content))
    with bounded_memory(1 << 30):
        assert all_hold("spooled", inputs, read_or_refused)
