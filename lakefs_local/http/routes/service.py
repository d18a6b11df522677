"""Health, configuration, setup state, the signed-in user."""

from lakefs_local.http.call import NO_CONTENT, Call, Refusal, Reply, reply_json
from lakefs_local.http.server import Server

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
