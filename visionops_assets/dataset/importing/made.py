"""Images that a format makes or names itself, with what became of the rest."""

from collections import Counter
from dataclasses import dataclass, field

from visionops_assets.dataset.findings import Finding
from visionops_assets.dataset.importing.columns import Images


@dataclass
class Made:
    """`images` with their labels. `left_out` counts images without one by the reason, `read` are the files that were
    read for labels or images, `images_in_files` says that these hold the images."""

    images: Images
    findings: list[Finding] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    read: set[str] = field(default_factory=set)
    images_in_files: bool = False
    # Annotations that were seen, and why some are not among the images'; None: one label an image.
    annotations: int = 0
    annotations_left_out: Counter[str] = field(default_factory=Counter)
