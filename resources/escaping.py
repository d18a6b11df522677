"""Text that somebody else chose, made safe for where it goes: one function for each place, and no other.

Names, labels, groups and messages come from files, devices and people. None of them may move a cursor, start a line, a
link, a tag, a cell or a formula, or ring somebody's bell. What is read back by programs is not escaped: JSON, Parquet,
and tables for a labelling tool keep their text.
"""

import logging
import re

from resources.masking import without_secrets

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
# At the start of a block: quick actions of GitLab, lists, rules and titles.
_STARTS = re.compile(r"^(?:[/+=-]|\d{1,9}(?=[.)]))")
# As CommonMark pairs them: a run of backticks up to the next of its length.
_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:.*?[^`])\1(?!`)")
# Nothing, between two characters that mean something together.
_NOTHING = "&#8203;"
_FORMULA = ("=", "+", "-", "@", "|", "＝", "＋", "－", "＠")


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
            return f"{found[0]}{_NOTHING}"
        case "#":
            return f"\\#{_NOTHING}" if found.string[found.end() : found.end() + 1].isdigit() else "\\#"
        case other:
            return f"\\{other}"
