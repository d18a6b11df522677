"""Finding out which format a source has."""

from pathlib import Path
from types import ModuleType

from visionops_assets.dataset.formats import folders, tables
from visionops_assets.dataset.formats.source import Source, SourceError

# The first that recognises a source reads it, so the more particular ones come first.
FORMATS: dict[str, ModuleType] = {module.NAME: module for module in (tables, folders)}


def read_source(source: Path, format_name: str | None = None) -> Source:
    """Read a source in the format named, or in the first that recognises it. Raises `SourceError`."""
    if not source.exists():
        raise SourceError(f"{source}: does not exist")
    if format_name is not None:
        if format_name not in FORMATS:
            raise SourceError(f"no format is called {format_name!r}; there are: {', '.join(FORMATS)}")
        return FORMATS[format_name].read(source)
    for module in FORMATS.values():
        if module.recognises(source):
            return module.read(source)
    raise SourceError(
        f"{source}: is in none of the formats {', '.join(FORMATS)}; expected for example a folder with images and "
        "a labels.csv (columns path, label), or one folder for each class"
    )
