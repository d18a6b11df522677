"""A path that begins with `~` and a name that no user has is one line wherever it is written, and no bug."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from desk import Desk

from edge.device import Device
from edge.settings import Settings
from lakefs_local.data_folder import DataFolder, FolderError
from resources.drop_places import DropFolder
from tests.world import shapes_project
from visionops import edge_repository
from visionops.bug_report import is_bug
from visionops.diagnosis import places
from visionops.diagnosis.checking import rows
from visionops.dvc.source_address import parse_address
from visionops_assets.delivery import signers

NOBODYS = "~nobody-of-that-name/x"
SETTINGS = Settings(Path("/device"), "shapes", "line-1", "cam-1", "repository")


@pytest.mark.parametrize(
    "command",
    [
        f"home move {NOBODYS}",
        f"inspect {NOBODYS}",
        f"import shapes {NOBODYS} --batch week-01",
        f"fleet export shapes --to {NOBODYS}",
        f"fleet provision shapes --group line-1 --device cam-1 --to {NOBODYS}",
    ],
)
def test_as_an_option_of_a_command(desk: Desk, command: str) -> None:
    with pytest.raises(Exception, match="no user has the name after ~") as raised:
        desk.run(*command.split())
    held_to(raised.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: SETTINGS.path(NOBODYS),
        lambda: Device.open(NOBODYS),
        lambda: DropFolder(NOBODYS),
        lambda: parse_address(f"dvc://{NOBODYS}"),
        lambda: parse_address(f"dvc://{NOBODYS}//images"),
        signers.load_keys,
        lambda: signers.key_at(f"file2:{NOBODYS}"),
        lambda: edge_repository.repository_address("shapes"),
    ],
)
def test_in_a_setting_or_an_address(ask: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VISIONOPS_EDGE", "VISIONOPS_EDGE_KEYS"):
        monkeypatch.setenv(variable, NOBODYS)
    with pytest.raises(Exception, match="no user has the name after ~") as raised:
        ask()
    held_to(raised.value)


def held_to(error: Exception) -> None:
    assert not is_bug(error)
    assert NOBODYS in str(error) and "\n" not in str(error)


def test_in_what_the_doctor_tries() -> None:
    (found,) = [
        row
        for row in rows(places.checks([shapes_project(drop={"address": NOBODYS})]))
        if row.state == "broken"
    ]
    assert NOBODYS in found.what and "no user has the name after ~" in found.what


def test_as_the_data_folder_of_the_embedded_lakefs() -> None:
    with pytest.raises(FolderError, match="no user has the name after ~"):
        DataFolder(Path(NOBODYS))
