"""The files of one project that wait in the spool: listed, read within their bounds, and taken away."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge.reports import LARGEST_BYTES as LARGEST_REPORT
from resources.storage import LARGEST_SPOOLED, Spool
from visionops_assets.config.project import Project
from visionops_assets.monitoring.device_files import DeviceFiles, is_report


@dataclass(frozen=True)
class WaitingFiles:
    """What waits, each with the project's name that it lies under: devices of one that was renamed go on writing by
    the old."""

    spool: Spool
    places: Mapping[str, str]

    @classmethod
    def of(cls, project: Project, spool: Spool) -> "WaitingFiles":
        """As the spool is now."""
        renamed = {project.delivered_as} - {project.project}
        found = {file: name for name in renamed for file in spool.files(name) if is_report(file)}
        # Of two by one name the other waits.
        return cls(spool, found | dict.fromkeys(spool.files(project.project), project.project))

    def read(self, files: Sequence[str], of_devices: DeviceFiles) -> Iterator[tuple[str, bytes]]:
        """The content of files, until `of_devices` has enough; of those that it keeps nothing of nothing is read."""
        kinds = sorted({(is_report(file), self.places[file]) for file in files})
        for signed, folder in kinds:
            those = [file for file in files if (is_report(file), self.places[file]) == (signed, folder)]
            wanted = [file for file in those if not signed or of_devices.is_read(file)]
            yield from ((file, b"") for file in those if signed and not of_devices.is_read(file))
            largest = LARGEST_REPORT if signed else LARGEST_SPOOLED
            for each in self.spool.read_each(folder, wanted, largest):
                yield each
                if of_devices.are_enough:
                    return

    def remove(self, files: Sequence[str]) -> None:
        """Take files away; those that are gone are fine."""
        for folder in sorted(set(self.places.values())):
            self.spool.remove(folder, [file for file in files if self.places[file] == folder])
