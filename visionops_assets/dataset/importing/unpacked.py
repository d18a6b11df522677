"""Files that are unpacked into a folder of their own, for as long as anybody holds it."""

import errno
import tempfile
from pathlib import Path, PurePosixPath

from resources.whole_outputs import WorkingFolder
from visionops_assets.dataset.importing.source import SourceError

_KINDS = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"\0\0\0\x0cjP  ", ".jp2"),
)
# Folders of a name, with it.
_DEEPEST = 16
# What is wrong with a name, not with the disk; ValueErrors, as of a null, have no number.
_NO_NAME = (None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


class UnpackedFolder:
    """A temporary folder that goes with its last holder."""

    def __init__(self) -> None:
        # What an import that was killed had unpacked goes first.
        self._held = WorkingFolder(Path(tempfile.gettempdir()), "visionops-unpacked")
        self.folder, self.remove = self._held.path, self._held.remove


class UnpackedImages(UnpackedFolder):
    """Images that lay in tables."""

    def add(self, data: bytes, folder: str, path: str, otherwise: str) -> str:
        """Write an image under the path that it comes with, or under another name; gives the path from the folder."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        inside = [part for part in parts if part not in ("/", "..", ".") and not part.endswith(":")]
        kind = kind_of(data) or ".bin"
        names = [f"{otherwise}{kind}"]
        if 0 < len(inside) <= _DEEPEST:
            name = "/".join(inside)
            if suffix_of(name) is None:
                name += kind
            # For a name that another image has, or that no file can have.
            own = f"{otherwise}{PurePosixPath(name).suffix}"
            names = [name, f"{name.rpartition('/')[0]}/{own}".lstrip("/"), f"{otherwise}{kind}"]
        try:
            for number, name in enumerate(names, start=1):
                name = f"{folder}/{name}" if folder else name
                target = self.folder / name
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    stream = target.open("xb")
                except (OSError, ValueError) as error:
                    if number == len(names) or getattr(error, "errno", None) not in _NO_NAME:
                        raise
                    continue
                with stream:
                    stream.write(data)
                break
        except OSError as error:
            raise SourceError(
                f"{self.folder}: images of a table cannot be unpacked there: {error.strerror}; set TMPDIR"
            ) from error
        return name


def suffix_of(name: str) -> str | None:
    """The suffix of a file's name, if it is a short one."""
    suffix = PurePosixPath(name).suffix
    return suffix.lower() if 1 < len(suffix) <= 6 else None


def kind_of(head: bytes) -> str | None:
    """The suffix that an image with these first bytes has; None for what is none."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return ".avif"
    return next((suffix for magic, suffix in _KINDS if head.startswith(magic)), None)
