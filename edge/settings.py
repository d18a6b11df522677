"""What a device was provisioned with: `device.json`, the trusted root and the device's key beside it."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge import EdgeError
from edge.files import NoSuchUser, named_path
from edge.formats import LEAST_KBPS, check_device, check_group

FORMAT = 1
_TEXT, _TEXT_OR_NONE, _TABLE_OR_NONE = (str,), (str, type(None)), (dict, type(None))
# What JSON may say where.
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("project", "group", "device", "repository", "state", "provider"), _TEXT),
    **dict.fromkeys(
        ("reports", "token_file", "ca", "certificate", "certificate_key", "proxy", "lock_file"), _TEXT_OR_NONE
    ),
    **dict.fromkeys(("source", "sink"), _TABLE_OR_NONE),
    "max_kbps": (int, float, type(None)),
    "threads": (int,),
    "reports_mb": (int, float),
    "key_readable_by_others": (bool,),
}
FILE, ROOT, KEY = "device.json", "root.json", "device.pem"


class SettingsError(EdgeError, ValueError):
    """A device's folder cannot be used. Names the file and the fix."""


@dataclass(frozen=True)
class Settings:
    """The content of `device.json`. Relative paths are meant from its folder.

    `source` is `{"folder": F, "then": "keep" | "remove"}` or `{"http": "host:port"}`; `sink` is
    `{"lines": FILE, "max_mb": N}` or `{"http": URL}`. `reports` is a folder or an address that takes PUT; no more
    than `reports_mb` of them wait here.
    """

    folder: Path
    project: str
    group: str
    device: str
    repository: str
    reports: str | None = None
    reports_mb: float = 50.0
    state: str = "state"
    source: Mapping[str, Any] | None = None
    sink: Mapping[str, Any] | None = None
    token_file: str | None = None
    ca: str | None = None
    certificate: str | None = None
    certificate_key: str | None = None
    proxy: str | None = None
    max_kbps: float | None = None
    lock_file: str | None = None
    threads: int = 1
    # Of ONNX Runtime; what it compiles is made before a model answers.
    provider: str = "CPUExecutionProvider"
    key_readable_by_others: bool = False

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """Of a device's folder. Raises `SettingsError`."""
        file = folder / FILE
        try:
            content = json.loads(file.read_text())
        except FileNotFoundError as error:
            raise SettingsError(
                f"{file} is not there: `visionops fleet provision PROJECT --group G --device D --to {folder}` makes it"
            ) from error
        except (ValueError, OSError) as error:
            raise SettingsError(f"{file} cannot be read: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else content
            raise SettingsError(
                f"{file} is of format {found}, this agent reads {FORMAT}: provision the device again"
            )
        known = {each.name for each in fields(cls)} - {"folder"}
        foreign = sorted(set(content) - known - {"format"})
        if foreign:
            raise SettingsError(f"{file}: {foreign[0]} is no setting; there are {', '.join(sorted(known))}")
        try:
            found = cls(folder=folder, **{name: content[name] for name in known & set(content)})
            for name, kinds in _KINDS.items():
                if not isinstance(getattr(found, name), kinds):
                    raise SettingsError(f"{file}: {name} is {getattr(found, name)!r}, which it cannot be")
            if found.max_kbps is not None and not found.max_kbps >= LEAST_KBPS:
                raise SettingsError(
                    f"{file}: max_kbps is {found.max_kbps!r}, it is at least {LEAST_KBPS:g}, or null"
                )
            check_device(found.device)
            check_group(found.group)
        except SettingsError:
            raise
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{file}: {error}") from error
        _check_table(file, "source", found.source, ({"folder", "then"}, {"http"}))
        _check_table(file, "sink", found.sink, ({"lines", "max_mb"}, {"http"}))
        return found

    def to_json(self) -> dict[str, Any]:
        """The content of the file, without what is as it would be anyway."""
        told = {"format": FORMAT}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "folder" and value != each.default:
                told[each.name] = value
        return told

    def path(self, name: str) -> Path:
        """A path of the settings."""
        try:
            return self.folder / named_path(name)
        except NoSuchUser as error:
            raise SettingsError(f"{self.folder / FILE}: {error}") from None

    def address(self, where: str) -> str:
        """A folder as an address, or an address as it is."""
        return where if "://" in where else self.path(where).absolute().as_uri()

    def bootstrap(self) -> bytes:
        """The root that the device trusts from the start. Raises `SettingsError`."""
        return self._read(ROOT, "the root of trust")

    def key(self) -> bytes:
        """The device's own key. Raises `SettingsError`, also where others may read it."""
        found = self._read(KEY, "the device's key")
        mode = stat.S_IMODE((self.folder / KEY).stat().st_mode)
        if mode & 0o077 and not self.key_readable_by_others:
            raise SettingsError(
                f"{self.folder / KEY} can be read by others ({mode:04o}): `chmod 600` it, or, where it is a mounted "
                'secret, set "key_readable_by_others": true in device.json'
            )
        return found

    def token(self) -> str | None:
        """The bearer token, if one is set. Raises `SettingsError`."""
        if self.token_file is None:
            return None
        return self._read(self.token_file, "the bearer token").decode().strip()

    def optional(self, setting: str) -> Path | None:
        """The file of a setting that names one, if it does."""
        name = getattr(self, setting)
        return self.path(name) if name else None

    def check_readable(self, setting: str) -> None:
        """Raise `SettingsError` where a setting names a file that cannot be read."""
        file = self.optional(setting)
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            raise SettingsError(
                f"{file}, the `{setting}` of device.json, cannot be read ({error.strerror})"
            ) from error

    def _read(self, name: str, what: str) -> bytes:
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"{self.path(name)}, {what}, cannot be read ({error.strerror}): "
                f"`visionops fleet provision {self.project} --group {self.group} --device {self.device} "
                "--to FOLDER --replace` makes the device's folder anew"
            ) from error


def _check_table(file: Path, name: str, table: Mapping[str, Any] | None, kinds: tuple[set[str], ...]) -> None:
    """Raise `SettingsError` where a table is none of these kinds."""
    if table is not None and not any(table and set(table) <= kind for kind in kinds):
        shapes = " or ".join("{" + ", ".join(sorted(kind)) + "}" for kind in kinds)
        raise SettingsError(f"{file}: {name} has {', '.join(sorted(table)) or 'nothing'}; it takes {shapes}")
