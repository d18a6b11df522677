"""What a person states of a source, where its files do not say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from resources.beneath import Links
from visionops_assets.dataset.importing.plain_text import known_encoding
from visionops_assets.dataset.importing.said import Unlabelled

BOX_ORDERS = ("xywh", "xyxy", "cxcywh")
UNLABELLED: tuple[Unlabelled, ...] = ("background", "leave-out", "error")


@dataclass(frozen=True)
class Stated:
    """`format` and `encoding` of the source, the order of the numbers of its `boxes`, what an `unlabelled` image is,
    classes that are called otherwise (`renamed`) or left out (`dropped`), whether what is wrong is left out and the
    rest published, whether links out of the source are followed, or none at all (`no_links`), and the share that is
    held out by lot where the splits of the source do not count."""

    format: str | None = None
    encoding: str | None = None
    boxes: str | None = None
    unlabelled: Unlabelled | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    leave_out_errors: bool = False
    follow_links: bool = False
    holdout: float | None = None
    no_links: bool = False

    def __post_init__(self) -> None:
        known_encoding(self.encoding)

    @property
    def links(self) -> Links:
        """Which links are followed."""
        return "none" if self.no_links else "anywhere" if self.follow_links else "inside"


NOTHING_STATED = Stated()
