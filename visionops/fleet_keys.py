"""`visionops fleet keys`: the keys that devices trust."""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from resources import home
from visionops.edge_repository import changing, projects_with_repository, repository_of, where

app = typer.Typer(help="The keys that devices trust.", no_args_is_help=True)

# Keys that are elsewhere take people together: they are told of this long before. Of the others, a quarter of a life.
_OFFLINE = {
    "root": "`visionops fleet keys rotate root` with the keys of its owners",
    "targets": "`visionops fleet refresh {project}` with the keys of its owners",
    "bundles": "`visionops fleet publish {project} --group GROUP --anew`, and its approvers",
}
_SOON, _LAST = timedelta(days=90), timedelta(days=7)


@app.command("init")
def init(
    projects: Annotated[
        list[str] | None, typer.Argument(help="Projects that get a repository for their devices.")
    ] = None,
) -> None:
    """Make a key for each role, once, unless VISIONOPS_EDGE_KEYS names one's own; and a repository for each project.

    Keep a copy of the folder in a safe place: who loses root.pem has to provision every device anew.
    """
    from visionops import services
    from visionops_assets.delivery.signers import VARIABLE, keys_folder, load_keys, make_keys

    for project in projects or ():
        services.project(project)
    if not os.environ.get(VARIABLE, "").strip():
        folder = keys_folder()
        made = make_keys(folder)
        typer.echo(
            f"keys of 6 roles {'made' if made else 'are there'} in {folder}; keep a copy in a safe place"
        )
    load_keys()
    for project in projects or ():
        with changing(project) as repository:
            made = repository.create()
        typer.echo(f"{project}: the repository {'is made' if made else 'is there'} in {where(project)}")


@app.command("show")
def show(
    project: Annotated[str | None, typer.Argument(help="A project, to see when its metadata ends.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show who may sign what, where the keys lie, and when what they signed ends."""
    from visionops_assets.delivery.signers import ROLES, WHAT, load_keys

    keys = load_keys()
    told: dict[str, Any] = {
        role: {"what": WHAT[role], "keys": keys.describe(role), "threshold": keys.roles[role].threshold}
        for role in ROLES
    }
    ends = {} if project is None else repository_of(project).read().expiries()
    if as_json:
        typer.echo(
            json.dumps({"roles": told, "expires": {k: v.isoformat() for k, v in ends.items()}}, indent=1)
        )
        return
    for role, each in told.items():
        typer.echo(f"{role:<10} {each['what']}\n{'':<10} {each['keys']}")
    now = datetime.now(UTC)
    for role, end in sorted(ends.items(), key=lambda each: each[1]):
        assert project is not None
        soon, _ = ending(project, role, end, now)
        days = (end - now).total_seconds() / 86400
        typer.echo(soon or f"{role:<20} ends {end:%Y-%m-%d %H:%M} UTC, in {days:.1f} days")
    if keys.embedded is not None and "://" in home.edge():
        typer.echo(
            f"warning: each role has one key, on this machine ({keys.embedded}): who has it ships to every device. "
            "docs/delivery.md tells how to keep them apart",
            err=True,
        )


def ending(project: str, role: str, end: datetime, now: datetime) -> tuple[str, bool]:
    """What to say of a role that ends soon, nothing of others; and whether devices take no news soon without it."""
    from visionops_assets.delivery.tuf_files import life

    how = _OFFLINE.get(role)
    least = _SOON if how is not None else life(role) / 4
    if end - now >= least:
        return "", False
    days = (end - now).total_seconds() / 86400
    when = f"ends {end:%Y-%m-%d %H:%M} UTC, in {days:.1f} days" if days > 0 else f"ended {-days:.1f} days ago"
    signed = (how or "`visionops fleet refresh {project}` where its keys are").format(project=project)
    return f"{role:<20} {when} — sign it anew: {signed}", how is None or end - now < _LAST


@app.command("rotate")
def rotate(
    role: Annotated[str, typer.Argument(help="root, targets, bundles, assign, snapshot or timestamp.")],
    old: Annotated[
        list[str] | None,
        typer.Option(
            "--old",
            metavar="ADDRESS",
            help="A key that goes, to sign the change with; several times for several.",
        ),
    ] = None,
) -> None:
    """Give a role other keys, in every project's repository; devices follow by themselves.

    With keys made here another one is made. With VISIONOPS_EDGE_KEYS change the file first, then run this. Safe to
    repeat: a change that was interrupted is completed.
    """
    from visionops_assets.delivery import signers

    if role not in signers.ROLES:
        raise typer.BadParameter(
            f"{role} is no role; there are {', '.join(signers.ROLES)}", param_hint="ROLE"
        )
    if not os.environ.get(signers.VARIABLE, "").strip() and signers.keys_folder().is_dir():
        # First: the key that is there may be lost.
        signers.begin_rotation(signers.keys_folder(), role)
    keys = signers.load_keys()
    going = [signers.key_at(each).signer() for each in old or ()]
    if keys.embedded is not None:
        keys, present = signers.rotating(keys.embedded, role)
        going += present
    for project in projects_with_repository():
        with changing(project, keys) as repository:
            repository.rotate(role, going)
        typer.echo(f"{project}: {role} is signed by {keys.describe(role)}")
    if keys.embedded is not None:
        signers.end_rotation(keys.embedded, role)
        typer.echo(f"the key before is removed; copy {keys.embedded / f'{role}.pem'} to the safe place")
