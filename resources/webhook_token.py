"""The token by which lakeFS is known to the webhook receiver.

lakeFS fills `{{ ENV.LAKEFSACTION_VISIONOPS_TOKEN }}` of an action file from its own environment; by default its actions
see variables of that prefix alone. Where nothing is configured, one token is made for this home.
"""

import contextlib
import os
import secrets
import uuid

from resources import home

TOKEN = "VISIONOPS_WEBHOOK_TOKEN"
LAKEFS_TOKEN = "LAKEFSACTION_VISIONOPS_TOKEN"


def webhook_token() -> str:
    """VISIONOPS_WEBHOOK_TOKEN, or the token of this home, which only its owner may read."""
    given = os.environ.get(TOKEN, "").strip()
    if given:
        return given
    file = home.home() / "webhook-token"
    with contextlib.suppress(FileNotFoundError):
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(32))
        # Of two processes that make one at once, both use the first.
        with contextlib.suppress(FileExistsError):
            os.link(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return file.read_text().strip()


def give_to_actions() -> None:
    """Let a lakeFS server that this process starts know the token."""
    os.environ.setdefault(LAKEFS_TOKEN, webhook_token())
