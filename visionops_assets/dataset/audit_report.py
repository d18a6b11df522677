"""The findings on a batch, sorted into the checks that are shown."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Every check that is shown, what it says, and the names its findings carry. The last one takes what is left.
SHOWN: dict[str, tuple[str, frozenset[str]]] = {
    "decodable": (
        "Every image can be read whole, is what its name says, and shows one picture.",
        frozenset({"readable", "named rightly", "single image"}),
    ),
    "measures": (
        "No image is too small, too large or too long.",
        frozenset({"measures"}),
    ),
    "labels_known": ("Every label is a class of the project.", frozenset({"labels known", "of the task"})),
    "boxes_inside": ("Every box has an area and lies inside its image.", frozenset({"boxes"})),
    "exact_duplicates": ("No image is there twice.", frozenset({"no copies"})),
    "near_duplicates": (
        "No image is nearly the same as another, above all across splits.",
        frozenset({"near duplicates", "no leak between splits"}),
    ),
    "one_label_an_image": (
        "The same image never has two labels.",
        frozenset({"one label an image"}),
    ),
    "groups_whole": (
        "No group has images on two sides of the split, and the holdout has enough groups to judge by.",
        frozenset({"groups whole", "holdout groups"}),
    ),
    "class_balance": ("Classes are about as frequent as on main.", frozenset({"class balance"})),
    "labels_plausible": (
        "The champion does not confidently disagree with the labels.",
        frozenset({"labels plausible"}),
    ),
    "apart": (
        "Nothing of the batch takes the place of what another project of the repository has.",
        frozenset({"apart from other projects"}),
    ),
    "complete": (
        "Every image has its annotation, every annotation its image.",
        frozenset(),
    ),
}


def by_shown_check(findings: "pd.DataFrame") -> "dict[str, pd.DataFrame]":
    """The findings of each check of `SHOWN`, in its order."""
    named = {name: shown for shown, (_, names) in SHOWN.items() for name in names}
    homes = findings["check"].map(named).fillna("complete")
    return {shown: findings[homes == shown].reset_index(drop=True) for shown in SHOWN}
