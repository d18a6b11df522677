"""Every command that changes something, as what it needs and what it leaves: for kills, signals and full disks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from homes import Home

IMAGES = 240


@dataclass(frozen=True)
class Verb:
    """A command line; `{}` stands for the folder of the home, `{run}` for the experiment there.

    `grown`, it needs a home with two versions and a production day. `writes` are files and folders beside the home.
    """

    line: str
    grown: bool = False
    writes: tuple[str, ...] = ()
    # Never ends by itself.
    serves: bool = False
    # May be told, at the second time, that it is done.
    again: tuple[int, ...] = (0,)
    # A name where two lines have the same verb.
    called: str = ""
    # What has to be done before, in a home of its own.
    first: tuple[str, ...] = ()
    # How the project is called afterwards, and where its home is.
    project: str = "shapes"
    home: str = "home"

    @property
    def name(self) -> str:
        return self.called or self.line.split()[0]

    def inputs(self, home: Home) -> list[str]:
        """Its arguments in a home."""
        return filled(self.line, home)

    def left(self, home: Home) -> Home:
        """The home where the command left it, which may have moved it."""
        if (home.root / "home" / "mlflow").is_dir() or not (home.root / self.home).is_dir():
            return home
        moved = Home(home.root)
        moved.environment = {**home.environment, "VISIONOPS_HOME": str(home.root / self.home)}
        return moved

    def outputs(self, root: Path) -> dict[str, bytes]:
        """What lies beside the home by its doing: every file by its path from the root.

        Not what git and DVC keep for themselves: git names its objects by the time of a commit.
        """
        found: dict[str, bytes] = {}
        for name in self.writes:
            place = root / name
            files = (
                [place] if place.is_file() else sorted(each for each in place.rglob("*") if each.is_file())
            )
            found |= {
                str(file.relative_to(root)): file.read_bytes()
                for file in files
                if not {".git", ".dvc"} & set(file.relative_to(place).parts)
            }
        return found


def filled(line: str, home: Home) -> list[str]:
    """The arguments of a line in a home."""
    line = line.replace("{}", str(home.root))
    if "{run}" in line:
        runs = home.registry().runs.search("shapes")
        line = line.replace("{run}", next(run.id for run in runs if "epochs=5" in run.name))
    return line.split()


LABELS = ("csv", "label-studio", "cvat")
VERBS = (
    Verb("tick"),
    Verb("import shapes {}/week-03 --batch week-03"),
    Verb("export dvc shapes main --to {}/exported", writes=("exported",)),
    Verb("train shapes --set epochs=9"),
    Verb("init more --from {}/week-03 --yes --floor 0.3", again=(0, 1)),
    Verb("what-if shapes --report {}/report.md"),
    Verb("submit shapes {run}", grown=True),
    Verb("retract shapes week-02 --why tried", grown=True, again=(0, 1)),
    Verb("compare shapes 1 2 --html {}/page.html", grown=True, writes=("page.html",)),
    Verb(
        "findings shapes week-01 --html {}/pages --to {}/found.csv",
        writes=("pages", "found.csv"),
        again=(0, 1),
    ),
    Verb("predict shapes {}/week-03 --log --draw {}/drawn", grown=True, writes=("drawn",), again=(0, 1)),
    *(
        Verb(
            f"labels export shapes --to {{}}/wanted --format {each}",
            grown=True,
            writes=("wanted",),
            again=(0, 1),
            called=f"labels-{each}",
        )
        for each in LABELS
    ),
    Verb("rollback shapes --why tried", grown=True, again=(0, 1)),
    Verb("override shapes --why tried", grown=True, first=("submit shapes {run}",), again=(0, 1)),
    Verb("reproduce shapes --present-versions", grown=True),
    Verb("reproduce shapes --present-versions --register", grown=True, called="reproduce-register"),
    Verb("project rename shapes forms", grown=True, again=(0, 1), called="rename", project="forms"),
    Verb("home move {}/moved", grown=True, again=(0, 1), called="move", home="moved"),
    Verb("serve shapes --port 0", grown=True, serves=True),
    Verb("verify shapes"),
    Verb("why shapes", grown=True),
    Verb("status shapes", grown=True),
    Verb("doctor", again=(0, 1)),
    # Of the projects of this repository.
    Verb("demo --days 0 --fleet 0"),
)


def marked(*quick: str, without: tuple[str, ...] = ()) -> list[Any]:
    """All of them as cases of a test; those that are not `quick` are for `make test-all`."""
    return [
        pytest.param(verb, id=verb.name, marks=[] if verb.name in quick else [pytest.mark.stated])
        for verb in VERBS
        if verb.name not in without
    ]
