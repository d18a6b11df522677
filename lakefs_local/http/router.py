"""Finds the operation of a request by walking its path, segment by segment."""

from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")


class Router(Generic[T]):
    """Maps method and path template (`/a/{b}`) to a value; a fixed segment goes before a parameter."""

    def __init__(self) -> None:
        self._fixed: dict[str, Router[T]] = {}
        self._parameter: Router[T] | None = None
        self._found: dict[str, tuple[T, list[str]]] = {}

    def add(self, method: str, template: str, value: T) -> None:
        """Raises ValueError if the method and template are taken."""
        here: Router[T] = self
        names = []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                here._parameter = here._parameter or Router()
                here = here._parameter
            else:
                here = here._fixed.setdefault(segment, Router())
        if method in here._found:
            raise ValueError(f"two routes for {method} {template}")
        here._found[method] = (value, names)

    def find(self, method: str, raw_path: str) -> tuple[T, dict[str, str]] | None:
        """The value and the parameters, for a path still percent-encoded; None if there is no such route.

        Raises UnicodeDecodeError for a parameter that is not UTF-8.
        """
        match = self._walk(method, raw_path.removeprefix("/").split("/"), 0, [])
        if match is None:
            return None
        (value, names), parts = match
        return value, dict(zip(names, (unquote_to_bytes(part).decode() for part in parts), strict=True))

    def _walk(
        self, method: str, segments: list[str], at: int, parts: list[str]
    ) -> tuple[tuple[T, list[str]], list[str]] | None:
        if at == len(segments):
            return (self._found[method], parts) if method in self._found else None
        segment = segments[at]
        fixed = self._fixed.get(segment)
        found = fixed._walk(method, segments, at + 1, parts) if fixed else None
        if found is None and self._parameter is not None and segment:
            found = self._parameter._walk(method, segments, at + 1, [*parts, segment])
        return found
