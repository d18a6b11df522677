"""What a change would make of the data, as a page for a pull request."""

from visionops.comparing.comparison import Comparison
from visionops.comparing.report import report
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.pages.page import Bullets, Heading, Page, Paragraph

REASONS = 12


def proposal_page(project: str, partition: str, verdict: Verdict, comparison: Comparison | None) -> Page:
    """What the gate would say, and the comparison with the champion where there is one."""
    against = "as the first champion" if verdict.champion is None else f"against {verdict.champion.name()}"
    reasons = tuple(reason.text for reason in verdict.reasons[:REASONS])
    opened = (
        Paragraph(
            f"A what-if on dataset version {partition}, {against}: it spends nothing and promotes nothing. Merged, the "
            "same recipe, code and data are judged as a decision."
        ),
        Bullets(reasons),
    )
    if comparison is None:
        return Page(f"{project}: {verdict.verdict}", opened)
    compared = report(comparison)
    return Page(f"{project}: {verdict.verdict}", (*opened, Heading(compared.title), *compared.blocks))


def failed_page(project: str, why: str) -> Page:
    """Why there is nothing to compare."""
    lines = tuple(line.strip() for line in why.splitlines() if line.strip())
    return Page(f"{project}: failed", (Paragraph("Nothing is compared:"), Bullets(lines[:REASONS])))
