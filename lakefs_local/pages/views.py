"""The pages: repositories, what a reference holds, one object, logs, a commit, a comparison."""

from dataclasses import dataclass, replace
from typing import Any

from lakefs_local.catalog import commits, diffs, objects, refs, repositories
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.conventions import Listed, Page, Paging
from lakefs_local.catalog.diffs import Changed
from lakefs_local.http import exchange
from lakefs_local.http.exchange import Call, Reply
from lakefs_local.http.server import Server
from lakefs_local.pages import render
from lakefs_local.pages.render import address_of, moment, render_page, size_in_words
from lakefs_local.storage import encoding
from lakefs_local.storage.database import Session

_ROWS = 100
_TEXT_LIMIT = 64 << 10
_LINK_KEY = "::lakefs::"


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    link: str = ""
    detail: str = ""
    detail_link: str = ""
    preview: str = ""
    size: str = ""
    modified: str = ""
    kind: str = ""


async def page_repositories(server: Server, call: Call) -> Reply:
    """All repositories."""
    with server.store.database.read() as session:
        found = repositories.page_of_repositories(session, _paging(call))
    rows = [
        Row(item.name, address_of(item.name, "objects", ref=item.default_branch), moment(item.created))
        for item in found.results
    ]
    following = f"/?after={found.next_offset}" if found.has_more else None
    return render_page("names.html", title="Repositories", rows=rows, column="Created", next=following)


async def page_branches(server: Server, call: Call) -> Reply:
    """The branches of a repository."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        found = repositories.page_of_branches(session, repository, _paging(call), hidden=True)
    rows = [_reference_row(repository.name, item.name, item.head) for item in found.results]
    return _names(repository, "Branches", rows, found, "branches")


async def page_tags(server: Server, call: Call) -> Reply:
    """The tags of a repository."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        found = refs.page_of_tags(session, repository, _paging(call))
    rows = [_reference_row(repository.name, item.name, item.target) for item in found.results]
    return _names(repository, "Tags", rows, found, "tags")


async def page_objects(server: Server, call: Call) -> Reply:
    """A folder of a reference."""
    path = exchange.text_of(call, "path", "")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        ref = exchange.text_of(call, "ref", "") or repository.default_branch
        found = objects.page_of_objects(
            session, repository, ref, replace(_paging(call), prefix=path, delimiter="/")
        )
    rows = [_object_row(repository.name, ref, path, item) for item in found.results]
    following = address_of(repository.name, "objects", ref=ref, path=path, after=found.next_offset)
    return render_page(
        "objects.html",
        title=path or repository.name,
        rows=rows,
        trail=_trail(repository.name, ref, path),
        next=following if found.has_more else None,
        **_about(repository, ref),
    )


async def page_object(server: Server, call: Call) -> Reply:
    """One object: a picture or the start of a text, and what is known about it."""
    path = exchange.required_text(call, "path")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        ref = exchange.text_of(call, "ref", "") or repository.default_branch
        entry = encoding.unpack_record(objects.find_object(session, repository, ref, path))
    head = await server.work(lambda: render.read_content(server.store, entry, _TEXT_LIMIT))
    picture = render.image_type(head) is not None
    facts = [
        ("Size", size_in_words(entry.size)),
        ("Modified", moment(entry.mtime)),
        ("Checksum", entry.checksum),
        ("Content type", entry.content_type),
        ("Address", server.objects.address(entry)),
        *sorted(entry.metadata.items()),
    ]
    return render_page(
        "object.html",
        title=path.rpartition("/")[2] or path,
        path=path,
        facts=facts,
        trail=_trail(repository.name, ref, path.rpartition("/")[0]),
        preview=_preview(repository.name, ref, path) if picture else "",
        text=None if picture else _text(head),
        download=address_of(repository.name, "download", ref=ref, path=path),
        **_about(repository, ref),
    )


async def page_commits(server: Server, call: Call) -> Reply:
    """The log of a reference."""

    def read(session: Session) -> Reply:
        repository = repositories.get_repository(session, call.parameters["repository"])
        ref = exchange.text_of(call, "ref", "") or repository.default_branch
        found = diffs.log_of(session, repository, ref, _paging(call), diffs.LogFilter())
        rows = [
            {
                "link": address_of(repository.name, "commits", item.id.hex()),
                "short": item.id.hex()[:12],
                "message": item.message,
                "committer": item.committer,
                "when": moment(item.seconds),
            }
            for item in found.results
        ]
        following = address_of(repository.name, "commits", ref=ref, after=found.next_offset)
        return render_page(
            "commits.html",
            title=f"Commits of {ref}",
            rows=rows,
            next=following if found.has_more else None,
            **_about(repository, ref),
        )

    return await server.read(read)


async def page_commit(server: Server, call: Call) -> Reply:
    """One commit, and what it changed against its first parent."""

    def read(session: Session) -> Reply:
        repository = repositories.get_repository(session, call.parameters["repository"])
        commit_id = refs.resolve_commit(session, repository.id, call.parameters["commit"])
        commit = commits.get(session, repository.id, commit_id)
        ref = commit.id.hex()
        found: Page[Listed[Changed]] = Page([])
        if commit.parents:
            parent = commit.parents[0].hex()
            found = diffs.diff_two_dot(session, repository, parent, ref, _paging(call))
        rows = [_change_row(repository.name, ref, item) for item in found.results]
        following = address_of(repository.name, "commits", ref, after=found.next_offset)
        return render_page(
            "changes.html",
            title=commit.message or "(no message)",
            facts=_commit_facts(repository.name, commit),
            rows=rows,
            next=following if found.has_more else None,
            **_about(repository, ref),
        )

    return await server.read(read)


async def page_compare(server: Server, call: Call) -> Reply:
    """What merging `compare` into `ref` would change."""
    other = exchange.required_text(call, "compare")

    def read(session: Session) -> Reply:
        repository = repositories.get_repository(session, call.parameters["repository"])
        ref = exchange.text_of(call, "ref", "") or repository.default_branch
        found = diffs.diff_three_dot(session, repository, ref, other, _paging(call))
        rows = [_change_row(repository.name, other, item) for item in found.results]
        following = address_of(repository.name, "compare", ref=ref, compare=other, after=found.next_offset)
        return render_page(
            "changes.html",
            title=f"{ref} … {other}",
            facts=[],
            rows=rows,
            next=following if found.has_more else None,
            **_about(repository, ref),
        )

    return await server.read(read)


def _paging(call: Call) -> Paging:
    return Paging("", exchange.text_of(call, "after", ""), _ROWS)


def _about(repository: repositories.Repository, ref: str) -> dict[str, Any]:
    return {"repository": repository.name, "default_branch": repository.default_branch, "ref": ref}


def _names(
    repository: repositories.Repository, title: str, rows: list[Row], found: Page[Any], kind: str
) -> Reply:
    following = address_of(repository.name, kind, after=found.next_offset) if found.has_more else None
    return render_page(
        "names.html", title=title, rows=rows, column="Commit", next=following, **_about(repository, "")
    )


def _reference_row(repository: str, name: str, commit_id: bytes) -> Row:
    commit = commit_id.hex()
    return Row(
        name,
        address_of(repository, "objects", ref=name),
        commit[:12],
        address_of(repository, "commits", commit),
    )


def _object_row(repository: str, ref: str, folder: str, item: Listed[bytes]) -> Row:
    path, record = item[0].decode(), item[1]
    name = path.removeprefix(folder)
    if record is None:
        return Row(name, address_of(repository, "objects", ref=ref, path=path))
    entry = encoding.unpack_record(record)
    link = address_of(repository, "object", ref=ref, path=path)
    picture = _preview(repository, ref, path) if render.looks_like_image(path) else ""
    return Row(name, link, preview=picture, size=size_in_words(entry.size), modified=moment(entry.mtime))


def _change_row(repository: str, ref: str, item: Listed[Changed]) -> Row:
    path, changed = item[0].decode(), item[1]
    if changed is None:
        return Row(path)
    there = changed.kind != "removed"
    link = address_of(repository, "object", ref=ref, path=path) if there else ""
    picture = _preview(repository, ref, path) if there and render.looks_like_image(path) else ""
    return Row(path, link, preview=picture, size=size_in_words(changed.size), kind=changed.kind)


def _preview(repository: str, ref: str, path: str) -> str:
    return address_of(repository, "preview", ref=ref, path=path)


def _trail(repository: str, ref: str, path: str) -> list[Row]:
    trail = [Row(f"{ref} / ", address_of(repository, "objects", ref=ref, path=""))]
    so_far = ""
    for part in path.rstrip("/").split("/") if path else []:
        so_far += part + "/"
        trail.append(Row(f"{part} / ", address_of(repository, "objects", ref=ref, path=so_far)))
    return trail


def _commit_facts(repository: str, commit: Commit) -> list[dict[str, str]]:
    facts = [
        {
            "name": "Id",
            "value": commit.id.hex(),
            "link": address_of(repository, "objects", ref=commit.id.hex()),
        }
    ]
    facts += [
        {"name": "Parent", "value": parent.hex(), "link": address_of(repository, "commits", parent.hex())}
        for parent in commit.parents
    ]
    facts += [
        {"name": "By", "value": commit.committer, "link": ""},
        {"name": "When", "value": moment(commit.seconds), "link": ""},
    ]
    for name, value in sorted(commit.metadata.items()):
        # lakeFS's convention for a link in metadata: `::lakefs::Label::url[url:ui]`.
        is_link = name.startswith(_LINK_KEY) and value.startswith(("http://", "https://"))
        label = name.split("::")[2] if is_link and name.count("::") >= 3 else name
        facts.append({"name": label, "value": value, "link": value if is_link else ""})
    return facts


def _text(head: bytes) -> str | None:
    try:
        text = head.decode() if len(head) < _TEXT_LIMIT else head.decode(errors="ignore")
    except UnicodeDecodeError:
        return None
    return text if "\0" not in text else None
