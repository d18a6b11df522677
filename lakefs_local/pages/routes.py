"""Which page answers at which address, and the two addresses that are no pages."""

from pathlib import Path

from lakefs_local.http.call import Call, Refusal, Reply, reply_json
from lakefs_local.http.server import Server
from lakefs_local.metrics import CONTENT_TYPE
from lakefs_local.pages import preview, views
from lakefs_local.pages.render import HEADERS, page

_STYLE = (Path(__file__).parent / "style.css").read_bytes()


async def style(server: Server, call: Call) -> Reply:
    """The one style sheet."""
    return Reply(200, _STYLE, "text/css; charset=utf-8", {**HEADERS, "cache-control": "max-age=3600"})


async def metrics(server: Server, call: Call) -> Reply:
    """For Prometheus; says nothing about what is stored."""
    return Reply(200, server.metrics.text(), CONTENT_TYPE)


async def collect(server: Server, call: Call) -> Reply:
    """Garbage collection, asked for by `python -m lakefs_local gc` while a server runs."""
    from lakefs_local.gate import Busy
    from lakefs_local.maintenance.collect import collect as collect_now

    try:
        collected = await server.work(lambda: collect_now(server.store, server.guarded.gate))
    except Busy as problem:
        raise Refusal(503, str(problem)) from None
    return reply_json(200, collected.told())


PAGES = [
    ("GET", "/", views.page_repositories),
    ("GET", "/repositories", views.page_repositories),
    ("GET", "/repositories/{repository}", views.page_objects),
    ("GET", "/repositories/{repository}/objects", views.page_objects),
    ("GET", "/repositories/{repository}/object", views.page_object),
    ("GET", "/repositories/{repository}/preview", preview.page_preview),
    ("GET", "/repositories/{repository}/download", preview.page_download),
    ("GET", "/repositories/{repository}/commits", views.page_commits),
    ("GET", "/repositories/{repository}/commits/{commit}", views.page_commit),
    ("GET", "/repositories/{repository}/compare", views.page_compare),
    ("GET", "/repositories/{repository}/branches", views.page_branches),
    ("GET", "/repositories/{repository}/tags", views.page_tags),
]
OTHERS = [
    ("GET", "/_lakefs_local/style.css", style),
    ("GET", "/metrics", metrics),
    ("POST", "/_lakefs_local/collect", collect),
]
PUBLIC = {"style", "metrics"}


def refusal(status: int, message: str) -> Reply:
    """A page that says why there is none; 401 makes a browser ask for the key pair."""
    reply = page("message.html", status, title="Sorry", message=message)
    if status == 401:
        reply.headers["www-authenticate"] = 'Basic realm="lakeFS (access key id and secret)", charset="UTF-8"'
    return reply
