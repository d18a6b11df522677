"""Repositories, their metadata, which of their branches are protected, and what their hooks ran and said; and what
the server says of itself: health, configuration, setup state, the signed-in user.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from lakefs_local import sample
from lakefs_local.catalog import repositories
from lakefs_local.catalog.repositories import Protection
from lakefs_local.hooks import hook_runs
from lakefs_local.hooks.hook_runs import HookRun, Run
from lakefs_local.http import exchange, schemas
from lakefs_local.http.exchange import NO_CONTENT, Call, Refusal, Reply, reply_json
from lakefs_local.http.server import Server
from lakefs_local.storage.database import Session

VERSION = "1.84.0-lakefs_local"
_STORAGE = {
    "blockstore_type": "local",
    "blockstore_namespace_example": "local://example-bucket/",
    "blockstore_namespace_ValidityRegex": "^local://",
    "default_namespace_prefix": "local://",
    "pre_sign_support": False,
    "pre_sign_support_ui": False,
    "pre_sign_multipart_upload": False,
    "import_support": True,
    "import_validity_regex": "^local://",
}
_VERSION = {"version": VERSION, "latest_version": VERSION, "upgrade_recommended": False, "upgrade_url": ""}


async def create_repository(server: Server, call: Call) -> Reply:
    """With a first commit, "Repository created"; on request with sample objects, or bare."""
    body, bare = await exchange.json_body(call, schemas.REPOSITORY), exchange.boolean_of(call, "bare")
    name, default_branch = body["name"], body.get("default_branch") or "main"

    def create(session: Session) -> repositories.Repository:
        repositories.check_new_repository(session, name)
        if body.get("storage_id"):
            # There is one store here, and it has no id.
            raise Refusal(400, f"no such storage: {body['storage_id']}: invalid storage id")
        return repositories.create_repository(
            session,
            name,
            body["storage_namespace"],
            default_branch,
            read_only=body.get("read_only", False),
            metadata={},
            bare=bare,
        )

    # As in lakeFS, a bare repository stays empty whatever else is asked for.
    if bare or not body.get("sample_data"):
        return reply_json(201, schemas.render_repository(await server.write(create)))
    made = await server.work(lambda: sample.populate(server.store, create))
    return reply_json(201, schemas.render_repository(made))


async def list_repositories(server: Server, call: Call) -> Reply:
    """By name."""
    with server.store.database.read() as session:
        return schemas.render_page(
            repositories.page_of_repositories(session, exchange.paging_of(call)), schemas.render_repository
        )


async def get_repository(server: Server, call: Call) -> Reply:
    """One repository."""
    with server.store.database.read() as session:
        return reply_json(
            200,
            schemas.render_repository(repositories.get_repository(session, call.parameters["repository"])),
        )


async def delete_repository(server: Server, call: Call) -> Reply:
    """With all it holds; its blobs go with the next collection."""
    name, force = call.parameters["repository"], exchange.boolean_of(call, "force")
    await server.write(lambda session: repositories.delete_repository(session, name, force=force))
    return NO_CONTENT


async def get_repository_metadata(server: Server, call: Call) -> Reply:
    """A map of strings."""
    with server.store.database.read() as session:
        return reply_json(200, repositories.get_repository(session, call.parameters["repository"]).metadata)


async def set_repository_metadata(server: Server, call: Call) -> Reply:
    """Add or replace keys."""
    body = await exchange.json_body(call, schemas.REPOSITORY_METADATA)
    name = call.parameters["repository"]
    await server.write(
        lambda session: repositories.set_repository_metadata(
            session, repositories.writable_repository(session, name), body["metadata"]
        )
    )
    return Reply(201)


async def delete_repository_metadata(server: Server, call: Call) -> Reply:
    """Remove keys."""
    body = await exchange.json_body(call, schemas.REPOSITORY_METADATA_KEYS)
    name = call.parameters["repository"]
    await server.write(
        lambda session: repositories.delete_repository_metadata(
            session, repositories.writable_repository(session, name), body["keys"]
        )
    )
    return NO_CONTENT


async def get_branch_protection_rules(server: Server, call: Call) -> Reply:
    """The rules, with an ETag to change them by."""
    with server.store.database.read() as session:
        rules = repositories.get_repository(session, call.parameters["repository"]).protection
    reply = reply_json(200, [{"pattern": rule.pattern} for rule in rules])
    reply.headers["etag"] = _etag_of_rules(rules)
    return reply


async def set_branch_protection_rules(server: Server, call: Call) -> Reply:
    """Replace the rules; with `If-Match` only if nobody else has meanwhile."""
    rules = await exchange.json_list(call, schemas.PROTECTION_RULE)
    expected = call.headers.get("if-match")
    name = call.parameters["repository"]

    def replace(session: Session) -> None:
        repository = repositories.writable_repository(session, name)
        if expected is not None and expected != _etag_of_rules(repository.protection):
            raise Refusal(412, "the branch protection rules have changed: precondition failed")
        repositories.set_protection(session, repository, [Protection(rule["pattern"]) for rule in rules])

    await server.write(replace)
    return NO_CONTENT


def _etag_of_rules(rules: tuple[Protection, ...]) -> str:
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest() if rules else ""


async def health_check(server: Server, call: Call) -> Reply:
    """The server answers."""
    return NO_CONTENT


async def get_config(server: Server, call: Call) -> Reply:
    """What clients ask for before anything else."""
    return reply_json(
        200,
        {"version_config": _VERSION, "storage_config": _STORAGE, "storage_config_list": [], "ui_config": {}},
    )


async def get_storage_config(server: Server, call: Call) -> Reply:
    """The storage part of the configuration."""
    return reply_json(200, _STORAGE)


async def get_lake_fs_version(server: Server, call: Call) -> Reply:
    """The version part of the configuration."""
    return reply_json(200, _VERSION)


async def get_garbage_collection_config(server: Server, call: Call) -> Reply:
    """Collection here is a command of the server itself: no grace period."""
    return reply_json(200, {"grace_period": 0})


async def get_setup_state(server: Server, call: Call) -> Reply:
    """Always set up: key pairs are made at the first start."""
    login = {"RBAC": "none", "login_url": "", "login_cookie_names": [], "logout_url": ""}
    return reply_json(200, {"state": "initialized", "comm_prefs_missing": False, "login_config": login})


async def setup(server: Server, call: Call) -> Reply:
    """Refused: see `get_setup_state`."""
    raise Refusal(409, "lakeFS already initialized")


async def get_current_user(server: Server, call: Call) -> Reply:
    """Every key pair belongs to the one user."""
    return reply_json(
        200, {"user": {"id": "admin", "creation_date": 0, "friendly_name": "admin", "email": ""}}
    )


async def get_auth_capabilities(server: Server, call: Call) -> Reply:
    """No users are managed here."""
    return reply_json(200, {"invite_user": False, "forgot_password": False})


async def post_stats_events(server: Server, call: Call) -> Reply:
    """Accepted and forgotten."""
    await call.body()
    return NO_CONTENT


async def list_repository_runs(server: Server, call: Call) -> Reply:
    """Newest first, of a branch or commit if asked."""
    branch, commit_id = exchange.text_of(call, "branch", ""), exchange.text_of(call, "commit", "")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return schemas.render_page(
            hook_runs.page_of_runs(session, repository, branch, commit_id, exchange.paging_of(call)),
            _render_run,
        )


async def get_run(server: Server, call: Call) -> Reply:
    """One run."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return reply_json(200, _render_run(hook_runs.get_run(session, repository, call.parameters["run_id"])))


async def list_run_hooks(server: Server, call: Call) -> Reply:
    """The hooks of a run."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return schemas.render_page(
            hook_runs.hooks_of_run(session, repository, call.parameters["run_id"], exchange.paging_of(call)),
            _render_hook,
        )


async def get_run_hook_output(server: Server, call: Call) -> Reply:
    """What was sent to a hook and what it answered."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        found = hook_runs.hook_of_run(
            session, repository, call.parameters["run_id"], call.parameters["hook_run_id"]
        )
    return Reply(
        200, found.output.encode(), "application/octet-stream", {"x-content-type-options": "nosniff"}
    )


def _render_run(value: Run) -> dict[str, Any]:
    return {
        "run_id": value.id,
        "branch": value.branch,
        "commit_id": value.commit_id,
        "event_type": value.event,
        "start_time": stamp(value.started),
        "end_time": stamp(value.ended),
        "status": "completed" if value.passed else "failed",
    }


def _render_hook(value: HookRun) -> dict[str, Any]:
    return {
        "hook_run_id": value.id,
        "action": value.action,
        "hook_id": value.hook,
        "start_time": stamp(value.started),
        "end_time": stamp(value.ended),
        "status": value.status,
    }


def stamp(nanoseconds: int) -> str:
    """A time as lakeFS writes it."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
