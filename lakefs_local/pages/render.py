"""HTML out of templates: everything is escaped, and nothing may run."""

from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from lakefs_local.http.call import Reply

# No scripts at all, pictures and style from here only, shown in nobody else's frame.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def address(repository: str, *parts: str, **query: str) -> str:
    """The address of a page about a repository."""
    path = "/".join(["/repositories", quote(repository, safe=""), *(quote(part, safe="") for part in parts)])
    return path + (f"?{urlencode(query)}" if query else "")


def page(template: str, status: int = 200, **values: Any) -> Reply:
    """A page; `repository` among the values gives it the repository's links."""
    repository = values.get("repository", "")
    text = (
        _templates()
        .get_template(template)
        .render(
            link=lambda *parts, **query: address(repository, *parts, **query),
            **{"next": None, "ref": "", "repository": "", **values},
        )
    )
    return Reply(status, text.encode(), "text/html; charset=utf-8", dict(HEADERS))


def moment(seconds: int) -> str:
    """A time to read."""
    return datetime.fromtimestamp(min(seconds, 253402300799), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int) -> str:
    """A number of bytes to read."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


@cache
def _templates() -> Any:
    # Imported at the first page: most servers are never looked at.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader("lakefs_local.pages"), autoescape=True, undefined=StrictUndefined)
