"""The lakeFS action that calls the receiver, and its way onto a repository's main."""

import contextlib
import re

from resources import home
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSNotFound

FILE = home.ROOT / "deploy" / "lakefs" / "visionops.yaml"
PATH = "_lakefs_actions/visionops.yaml"
BRANCH = "visionops-webhook"
MESSAGE = "Tell VisionOps of each commit to main"


def action(url: str) -> bytes:
    """The action file that posts to `url`. Raises ValueError for what is no http address."""
    if not re.fullmatch(r"https?://[^\s/\"'#]+(/[^\s\"'#]*)?", url):
        raise ValueError(
            f"{url} is no http address of a receiver, such as http://visionops.example.com:9322/lakefs"
        )
    return re.sub(r"(?m)^(\s*url: ).*$", lambda found: found[1] + url, FILE.read_text()).encode()


def install(lakefs: LakeFSResource, repository: str, url: str) -> str | None:
    """Commit the action on a branch and merge it to main; the merge commit, or None where it is there already.

    By a merge, since main may be protected. Raises what lakeFS raises.
    """
    content = action(url)
    # As the first import would.
    lakefs.create_repository(repository)
    with contextlib.suppress(LakeFSNotFound):
        if lakefs.read(repository, MAIN, PATH) == content:
            return None
    lakefs.delete_branch(repository, BRANCH)
    lakefs.create_branch(repository, BRANCH)
    lakefs.write(repository, BRANCH, PATH, content)
    lakefs.save(repository, BRANCH, MESSAGE, {})
    merged = lakefs.merge(repository, BRANCH, MAIN, MESSAGE)
    lakefs.delete_branch(repository, BRANCH)
    return merged
