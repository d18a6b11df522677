"""Text that somebody else chose or that may hold secrets, made safe for where it goes: one function for each place.

Names, labels, groups and messages come from files, devices and people. None of them may move a cursor, start a
line, a link, a tag, a cell or a formula, or tell what the environment or an address holds as a secret.
"""

import logging
import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

# A name is shown up to here: enough to know it by.
LONGEST_NAME = 300
# Control characters, what turns the direction of text or is not seen, line ends of Unicode, and lone surrogates, which
# are bytes of a name that are no UTF-8. Joiners stay: scripts and emoji need them.
_UNSEEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f"
)
_LINES = re.compile(f"[{_UNSEEN}]")
_ONE_LINE = re.compile(f"[\n\t{_UNSEEN}]")
# In order: what Markdown reads; ends of references to people, issues and requests; links that need no brackets.
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>~$&]|@|#|!(?=\d)|(?<=\bGH)-(?=\d)|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)
# At the start of a block: quick actions of GitLab, and lists, rules and titles, which a number as 90.0 or +1 is not.
_STARTS = re.compile(r"^(?:/|[+=-](?=[\s+=-]|$)|\d{1,9}(?=[.)](?:\s|$)))")
# As CommonMark pairs them: a run of backticks up to the next of its length.
_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:.*?[^`])\1(?!`)")
# Nothing, between two characters that mean something together; no text has it otherwise, see `one_line`.
NOTHING = "&#8203;"
_FORMULA = ("=", "+", "-", "@", "|", "＝", "＋", "－", "＠")
HIDDEN = "***"
# Addresses whose text after the scheme is a path: an `@` in it belongs to a name.
_PATHS = ("sqlite", "file", "local", "dvc", "s3", "gs", "gcs", "abfs", "abfss", "az")
# Of these, what follows the place is a path too; of all others only the place has an `@` before it.
_WEB = ("", "http", "https", "ssh", "git")
_SECRET_NAME = re.compile(
    r"SECRET|PASSWORD|PASSWD|TOKEN|API_?KEY|ACCESS_KEY|_WEBHOOK$|CREDENTIAL|_PIN$", re.IGNORECASE
)
_SECRET_QUERY = re.compile(
    r"([?&;][^=&;#\s]*(?:secret|passw|token|signature|credential|sslkey|api_?key|access_?key)[^=&;#\s]*=)[^&;#\s]+",
    re.IGNORECASE,
)
# What an example shows is nobody's.
_USER_INFO = re.compile(r"(\b[A-Za-z][\w+.-]*://)(?!USER:PASSWORD@)[^\s/'\"@]*(?::[^\s'\"@]*)?@")
# A shorter one would be found in ordinary words.
_LONG_ENOUGH = 6


def visible(text: str) -> str:
    """For a terminal, or HTML after its own escaping: lines stay, and what is not seen is shown, as `\\x1b`."""
    return _LINES.sub(_shown, text)


def one_line(text: object, most: int | None = None) -> str:
    """The same as one line, its line ends shown too; what is longer than `most` is cut in the middle."""
    shown = str(text)
    if most is not None and len(shown) > most:
        half = (most - 1) // 2
        shown = f"{shown[:half]}…{shown[-half:]}"
    return _ONE_LINE.sub(_shown, shown)


def folded(text: str) -> str:
    """For errors and logs: lines after the first are indented, so that none looks like another record."""
    return visible(text).replace("\n", "\n  ")


def markdown(text: object) -> str:
    """For Markdown, of Dagster, MLflow, GitHub and GitLab: one line that mentions nobody and refers to nothing."""
    return _of_block(_in_markdown(one_line(text).strip())).replace("|", r"\|")


def sentence(text: str) -> str:
    """The same for a sentence of ours, outside of tables: what stands in backticks stays code, a command as it is."""
    shown, parts, end = one_line(text).strip(), list[str](), 0
    for code in _CODE.finditer(shown):
        parts += [_in_markdown(shown[end : code.start()]), code[0]]
        end = code.end()
    return _of_block("".join([*parts, _in_markdown(shown[end:])]))


def message(text: object) -> str:
    """For Slack and its like, where `<!channel>` or `@all` would ring everybody's bell."""
    escaped = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("@", "@\u200b")


def cell(text: str) -> str:
    """For a spreadsheet: text that is no formula. Only for reports: what is read back keeps its text."""
    shown = one_line(text)
    return f"'{shown}" if shown.lstrip(" '").startswith(_FORMULA) or text[:1] in ("\t", "\r", "\n") else shown


def drawn(text: object, most: int = LONGEST_NAME) -> str:
    """For a figure of matplotlib, which takes what stands between dollars for a formula."""
    return one_line(text, most).replace("$", r"\$")


def storable(text: str) -> str:
    """For databases and files in UTF-8 that keep text as it is: only what is no Unicode is written otherwise."""
    return text.encode("utf-8", "backslashreplace").decode()


class RecordFormatter(logging.Formatter):
    """A record that cannot be taken for two, and tells no secret: what it says is `folded`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return folded(without_secrets(super().format(record)))


def log_to_stderr() -> None:
    """Have warnings of this process on standard error, a record each."""
    handler = logging.StreamHandler()
    handler.setFormatter(RecordFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _shown(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _in_markdown(text: str) -> str:
    return _MARKDOWN.sub(_literal, text)


def _of_block(text: str) -> str:
    return _STARTS.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", text)


def _literal(found: re.Match[str]) -> str:
    match found[0]:
        case "&":
            return "&amp;"
        case "@" | "!" | "-" | ":" | ".":
            return f"{found[0]}{NOTHING}"
        case "#":
            return f"\\#{NOTHING}" if found.string[found.end() : found.end() + 1].isdigit() else "\\#"
        case other:
            return f"\\{other}"


def is_secret(name: str) -> bool:
    """Whether a variable holds a secret, by its name; one that names a file does not."""
    return _SECRET_NAME.search(name) is not None and not name.endswith(("_FILE", "_PATH", "_DIR"))


def masked(address: str, instead: str = "") -> str:
    """The address without user, password and the secrets of its query; `instead` takes the place of the user.

    What cannot be read as an address loses all before its last `@`, since a password may hold any character.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    # Ours, which nobody wrote.
    scheme = scheme.removesuffix("+psycopg2")
    if not _holds_user(scheme.partition("+")[0].lower(), rest):
        return _SECRET_QUERY.sub(rf"\1{HIDDEN}", f"{scheme}{separator}{rest}")
    place = rest.rpartition("@")[2]
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", f"{scheme}{separator}{f'{instead}@' if instead else ''}{place}")


def _holds_user(scheme: str, rest: str) -> bool:
    """Whether what stands after the scheme has a user, well written or not."""
    if "@" not in rest or scheme in _PATHS:
        return False
    if scheme not in _WEB:
        return True
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        # `git@host:organisation/repository` names no secret.
        return bool(scheme) or ":" in rest.partition("@")[0]
    # `user:pass/word@host`: no port is a word.
    _, colon, port = authority.rpartition(":")
    return bool(colon) and not port.isdigit()


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A message in which nothing stands that the environment holds as a secret, nor a user of an address."""
    for secret in sorted(_secrets(environment), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", _USER_INFO.sub(rf"\1{HIDDEN}@", text))


def _secrets(environment: Mapping[str, str]) -> set[str]:
    """Values of variables that are secrets by their name, and passwords of those that are addresses."""
    found: set[str] = set()
    for name, value in environment.items():
        if is_secret(name):
            found.add(value)
            found.add(_path_of(value))
        elif "://" in value and "@" in value:
            user = value.partition("://")[2].rpartition("@")[0]
            password = user.partition(":")[2]
            found |= {password, unquote(password)}
    return {secret for secret in found if len(secret) >= _LONG_ENOUGH}


def _path_of(value: str) -> str:
    """Of an address that is a secret, the path is one by itself."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return parts.path.strip("/") if parts.scheme in ("http", "https") else ""
