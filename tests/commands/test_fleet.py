"""From a promoted version to a device that answers by it, on the command line, with processes as they ship."""

import json
import shutil
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from desk import Desk

from edge.selftest import Golden
from resources.models.lock import PromotionLocked
from tests.devices.agent_process import agent
from tests.devices.small_fleet import PROJECT, Fleet
from tests.world import CLASSES, draw
from visionops.simulation.simulated_device import SimulatedDevice
from visionops_assets.delivery import signers, tuf_files


def photograph(folder: Path, seed: int) -> str:
    """A camera writes a picture; its true class."""
    from PIL import Image

    label = CLASSES[seed % len(CLASSES)]
    pixels = draw(label, np.random.default_rng(seed + 1000))
    Image.fromarray(pixels[..., 0]).save(folder / f"{seed:04d}.png")
    return label


def provisioned(desk: Desk, folder: Path, *options: str) -> str:
    """What is said of cam-17 of line-1, which starts with this folder."""
    where = ("--group", "line-1", "--device", "cam-17", "--to", str(folder))
    return desk.run("fleet", "provision", "shapes", *where, *options)


def test_a_promoted_version_answers_on_a_device(desk_of_promoted: Desk, tmp_path: Path) -> None:
    desk = desk_of_promoted
    assert "made" in desk.run("fleet", "keys", "init", "shapes")
    device, camera = tmp_path / "cam-17", tmp_path / "camera"
    camera.mkdir()
    assert "group line-1 is new" in provisioned(desk, device, "--reports", str(tmp_path / "reports"))
    assert (device / "device.pem").stat().st_mode & 0o777 == 0o600
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    added = subprocess.run(
        ["git", "-C", str(tmp_path), "add", "--dry-run", "."], check=True, capture_output=True, text=True
    )
    assert "cam-17/" not in added.stdout, "a private key is not committed with what lies beside it"
    settings = json.loads((device / "device.json").read_text())
    settings |= {"source": {"folder": str(camera)}, "sink": {"lines": "answers.jsonl"}}
    (device / "device.json").write_text(json.dumps(settings))
    assert "no_assignment" in agent("once", device, fails=True)

    said = desk.run("fleet", "publish", "shapes", "--group", "line-1", "--observe", "5")
    assert "version 1 of shapes as release 1 is assigned to line-1" in said
    bundle_holds_what_it_says(desk)
    truth = {f"{seed:04d}.png": photograph(camera, seed) for seed in range(12)}
    said = agent("once", device)
    assert "IDLE" in said and "release 1" in said
    lines = (device / "answers.jsonl").read_text().splitlines()
    answers = {each["name"]: each for each in map(json.loads, lines)}
    assert set(answers) == set(truth)
    assert sum(answers[name]["prediction"] == truth[name] for name in truth) >= 9
    # The product says the same of the same images.
    told = json.loads(desk.run("predict", "shapes", str(camera), "--json"))
    for each in told["predictions"]:
        found = answers[Path(each["image"]).name]
        assert found["prediction"] == each["prediction"]
        assert found["confidence"] == pytest.approx(each["confidence"], abs=1e-5)
        assert found["model"]["sha256"] == told["model"]["sha256"]
    # Once more: nothing is answered twice, and nothing is published twice.
    agent("once", device)
    assert len((device / "answers.jsonl").read_text().splitlines()) == 12
    assert "runs already" in desk.run("fleet", "publish", "shapes", "--group", "line-1", "--observe", "5")
    status = json.loads(agent("status", device, "--json"))
    assert status["phase"] == "IDLE" and status["problem"] is None and status["waiting_events"] == 0
    assert list((tmp_path / "reports" / "shapes" / "cam-17").glob("*.jsonl.gz"))


def bundle_holds_what_it_says(desk: Desk) -> None:
    """A manifest names where the model comes from, and golden images that a device has time and room for."""
    root = desk.world.root / "edge" / "repository" / "shapes"
    (manifest,) = (json.loads(file.read_text()) for file in (root / "targets" / "bundles").glob("*.json"))
    assert len(manifest["model"]["provenance_sha256"]) == len(manifest["model"]["weights_sha256"]) == 64
    assert manifest["requires"]["providers"] == ["CPUExecutionProvider"]
    golden = (root / "blobs" / manifest["files"]["golden.npz"]["sha256"]).read_bytes()
    assert len(golden) <= 2_000_000
    images = Golden.read(golden).images
    assert 4 <= len(images) <= 64 and {0, 255} <= {int(each.max()) for each in images}
    # Of what it was validated with, never of the holdout.
    assert manifest["model"]["partition"]


def fails(desk: Desk, *arguments: str) -> str:
    """What a command says that cannot do what it was asked: one line."""
    from typer.testing import CliRunner

    from visionops.cli.command_line import app

    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code != 0, result.output
    said = str(result.exception) if not isinstance(result.exception, SystemExit) else result.output
    if not isinstance(result.exception, SystemExit):
        assert "\n" not in said, said
    return said


@pytest.mark.slow
def test_what_cannot_be_done_is_said_in_one_line(
    desk_of_promoted: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    cam = ("fleet", "provision", "shapes", "--device", "cam-17")
    for words in (("publish", "shapes", "--group", "line-1"), ("keys", "show", "shapes")):
        assert "`visionops fleet keys init shapes` makes" in fails(desk, "fleet", *words)
    assert "`visionops fleet keys init PROJECT` makes" in fails(desk, "fleet", "keys", "show")
    assert "visionops fleet keys init shapes" in fails(
        desk, *cam, "--group", "line-1", "--to", str(tmp_path / "a")
    )
    desk.run("fleet", "keys", "init")
    assert "has no delivery repository yet" in fails(desk, "fleet", "publish", "shapes", "--group", "line-1")
    desk.run("fleet", "keys", "init", "shapes")
    assert "is there" in desk.run("fleet", "keys", "init", "shapes")
    for group in ("line/1", "all"):
        assert "no name for a device group" in fails(
            desk, *cam, "--group", group, "--to", str(tmp_path / "a")
        )
    # Nor is a group made, or anything, of what is refused.
    (tmp_path / "note").write_text("in the way")
    to = str(tmp_path / "note" / "a")
    assert "note is a file: name a new folder" in fails(desk, *cam, "--group", "line-1", "--to", to)
    assert "note is a file" in fails(desk, "fleet", "export", "shapes", "--to", to)
    assert "no name for a device" in fails(
        desk, *cam[:3], "--device", "a/b", "--group", "line-1", "--to", str(tmp_path / "a")
    )
    s3 = ("--repository", "s3://models/shapes")
    assert "s3://models" in fails(desk, *cam, "--group", "line-1", "--to", str(tmp_path / "a"), *s3)
    assert "assign-line-1" not in desk.run("fleet", "keys", "show", "shapes")
    desk.run(*cam, "--group", "line-1", "--to", str(tmp_path / "a"))
    said = fails(desk, *cam, "--group", "line-2", "--to", str(tmp_path / "b"))
    assert "is enrolled since" in said and "--replace" in said and "fleet move" in said
    assert not (tmp_path / "b").exists()
    before = (tmp_path / "a" / "device.pem").read_bytes()
    made = desk.json(*cam, "--group", "line-1", "--to", str(tmp_path / "a"), "--replace")
    assert (made["device"], made["group"], made["folder"]) == ("cam-17", "line-1", str(tmp_path / "a"))
    assert (tmp_path / "a" / "device.pem").read_bytes() != before
    assert "no device cam-71" in fails(desk, "fleet", "revoke", "shapes", "cam-71", "--why", "stolen")
    revoked = desk.json("fleet", "revoke", "shapes", "cam-17", "--why", "stolen")
    assert revoked["device"] == "cam-17" and "stolen" in revoked["revoked"]
    assert "is revoked already" in fails(desk, "fleet", "revoke", "shapes", "cam-17", "--why", "stolen")
    assert "version 9" in fails(
        desk, "fleet", "publish", "shapes", "--group", "line-1", "--model-version", "9"
    )
    said = fails(desk, "fleet", "publish", "shapes", "--group", "line-1", "--window", "tonight")
    assert "no window such as" in said
    assert "line-1" in desk.run("fleet", "publish", "shapes", "--group", "line-1", "--window", "22:00-05:00")
    publish = ("fleet", "publish", "shapes", "--group", "line-1")
    # What approvers signed is not changed by typing something else.
    said = fails(desk, *publish, "--cpu-ms", "7")
    assert "release 1 of this model is signed with budget cpu_ms unstated, not 7.0: --anew" in said
    for wrong in ("tensorrt", "TensorrtExecutionProvider=much", "TensorrtExecutionProvider=1.5"):
        assert "Invalid value for --tolerance" in fails(desk, *publish, "--tolerance", wrong)
    for option, wrong in (("--poll-every", "inf"), ("--max-kbps", "0")):
        assert f"Invalid value for '{option}'" in fails(desk, *publish, option, wrong)
    assert "Invalid value for '--port'" in fails(desk, "fleet", "serve", "--port", "99999")
    tolerance = ("--tolerance", "TensorrtExecutionProvider=0.01")
    assert "--anew" in fails(desk, *publish, *tolerance)
    assert "as release 2" in desk.run(*publish, *tolerance, "--anew", "--cpu-ms", "70")
    assert "runs already" in desk.run(*publish, *tolerance, "--cpu-ms", "70")
    said = fails(desk, "fleet", "publish", "shapes", "--group", "line-1", "--floor", "7")
    assert "would refuse release 2 itself" in said
    assert "belongs to line-2" in desk.run("fleet", "move", "shapes", "cam-17", "--group", "line-2")
    assert "is no role" in fails(desk, "fleet", "keys", "rotate", "toor")
    assert "timestamp is signed by" in desk.run("fleet", "keys", "rotate", "timestamp").replace(
        "shapes: ", ""
    )
    assert "ends" in desk.run("fleet", "keys", "show", "shapes")
    assert "nothing is old" in desk.run("fleet", "refresh")
    assert "files written" in desk.run("fleet", "export", "shapes", "--to", str(tmp_path / "stick"))
    assert "0 files" in desk.run("fleet", "export", "shapes", "--to", str(tmp_path / "stick"))

    keys = desk.world.root / "edge" / "keys"
    (keys / "bundles.pem").chmod(0o644)
    assert "can be read by others (0644): `chmod 600" in fails(desk, "fleet", "keys", "show")
    (keys / "bundles.pem").unlink()
    assert "bundles.pem is not there: restore it" in fails(desk, "fleet", "keys", "show")
    # It is made anew, and devices are told: nothing but root's key cannot be replaced.
    assert "bundles is signed by" in desk.run("fleet", "keys", "rotate", "bundles")
    assert "line-1" in desk.run("fleet", "publish", "shapes", "--group", "line-1", "--anew")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VISIONOPS_EDGE", str(tmp_path / "file"))
    said = fails(desk, "fleet", "keys", "init", "shapes")
    assert str(tmp_path / "file") in said
    monkeypatch.setenv("VISIONOPS_EDGE_KEYS", str(tmp_path / "keys.yaml"))
    assert "cannot be read" in fails(desk, "fleet", "keys", "show")


def test_two_approvers_sign_what_they_see(
    desk_of_promoted: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    people = {name: tmp_path / f"{name}.pem" for name in ("alice", "bob")}
    for file in people.values():
        signers.write_key(file)
    own = {role: [f"file2:{role}.pem"] for role in signers.ROLES if role != "bundles"}
    for role in own:
        signers.write_key(tmp_path / f"{role}.pem")
    declared = tmp_path / "keys.yaml"
    approvers = [f"file2:{file}" for file in people.values()]
    declared.write_text(yaml.safe_dump({**own, "bundles": {"threshold": 2, "keys": approvers}}))
    monkeypatch.setenv("VISIONOPS_EDGE_KEYS", str(declared))
    desk.run("fleet", "keys", "init", "shapes")
    # From now on this machine has only the approvers' public halves.
    public = []
    for name, file in people.items():
        key = load_pem_private_key(file.read_bytes(), None).public_key()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(pem)
        public.append({"public": f"{name}.pub"})
    declared.write_text(yaml.safe_dump({**own, "bundles": {"threshold": 2, "keys": public}}))
    publish = ("fleet", "publish", "shapes", "--group", "line-1")
    assert "waits: signed by 0 of 2 approvers" in desk.run(*publish)
    shown = desk.run("rollout", "sign", "shapes")
    assert "version 1" in shown and "model.onnx" in shown and "verdict" in shown and "0 of 2" in shown
    stranger = f"file2:{tmp_path / 'assign.pem'}"
    said = fails(desk, "rollout", "sign", "shapes", "--key", stranger, "--yes")
    assert "is none of the approvers'" in said
    assert "signed by 1 of 2" in desk.run("rollout", "sign", "shapes", "--key", approvers[0], "--yes")
    assert "waits: signed by 1 of 2" in desk.run(*publish)
    said = desk.run("rollout", "sign", "shapes", "--key", approvers[1], "--yes")
    assert "signed by 2 of 2" in said and "is published" in said
    assert "is assigned to line-1" in desk.run(*publish)
    assert "no release of shapes waits" in desk.run("rollout", "sign", "shapes")


@pytest.mark.parametrize(
    ("days", "told", "code"),
    [
        # Half of root's life, but not of the others': nothing is said, and nothing is to be done.
        (0, set(), 0),
        (274, set(), 0),
        # What this machine has keys for was signed anew; root takes its owners.
        (276, {"root"}, 0),
        (357, {"root"}, 0),
        (359, {"root"}, 1),
        (366, {"root"}, 1),
    ],
)
def test_refresh_tells_of_what_takes_keys_that_are_elsewhere(
    tmp_path: Path, days: int, told: set[str], code: int
) -> None:
    from visionops import edge_repository

    now = datetime.now(UTC)
    fleet = Fleet(tmp_path)
    later = now + timedelta(days=days)
    fleet.clock.time = later
    fleet.repository.refresh()
    ends = fleet.repository.read().expiries()
    found = {role: edge_repository.ending_of_role(PROJECT, role, end, later) for role, end in ends.items()}
    assert {role for role, (said, _) in found.items() if said} == told
    assert any(urgent for _, urgent in found.values()) == (code == 1)
    for role in told:
        assert "`visionops fleet keys rotate root`" in found[role][0] and "\n" not in found[role][0]


def test_a_refresh_that_comes_too_late_for_an_offline_role_fails(
    desk_of_promoted: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from visionops.cli.command_line import app

    desk = desk_of_promoted
    desk.run("fleet", "keys", "init", "shapes")
    assert "nothing is old" in desk.run("fleet", "refresh")
    monkeypatch.setitem(tuf_files.LIVES, "root", timedelta(days=6))
    desk.run("fleet", "keys", "rotate", "root")
    result = CliRunner().invoke(app, ["fleet", "refresh"])
    assert result.exit_code == 1
    assert "sign it anew: `visionops fleet keys rotate root`" in result.output
    assert "sign it anew" in desk.run("fleet", "keys", "show", "shapes")


def test_simulated_devices_need_a_repository_a_group_and_somebody_who_asks(
    desk_of_promoted: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    up = ("fleet", "up", "shapes")
    assert "`visionops fleet keys init shapes` makes" in fails(desk, *up)
    desk.run("fleet", "keys", "init", "shapes")
    assert "has no device group: name one in `delivery.groups`" in fails(desk, *up)
    desk.run("fleet", "publish", "shapes", "--group", "line-1")
    assert "no device group line-2; did you mean line-1?" in fails(desk, *up, "--group", "line-2")
    assert "'line-1:quick' is no fault such as line-3:slow=40" in fails(desk, *up, "--fault", "line-1:quick")
    said = fails(desk, *up, "--fault", "line-7:slow=2")
    assert "line-7:slow is a fault of a group or device that does not run; did you mean line-1?" in said
    for where in ("line-1", "line-1-sim-02"):
        said = fails(desk, *up, "--fault", f"{where}:slow=40")
        assert f"{where}:slow changes nothing: no budget of line-1" in said
    assert "`visionops fleet publish shapes --group line-1 --cpu-ms 20 --anew`" in said
    said = fails(desk, *up, "--fault", "line-1:disk=1")
    assert "line-1:disk=1 is too small for an agent to start: at least line-1:disk=40k" in said
    with monkeypatch.context() as patched:
        patched.setenv("VISIONOPS_EDGE", "s3://models/edge")
        assert "VISIONOPS_EDGE" in fails(desk, *up, "--group", "line-1")
    monkeypatch.delenv("VISIONOPS_ACTOR")
    assert "VISIONOPS_ACTOR" in fails(desk, *up)


def test_simulated_devices_are_provisioned_once_and_shown_no_holdout(desk_of_promoted: Desk) -> None:
    from visionops import services
    from visionops.simulation import provisioned_devices
    from visionops.simulation.declared_faults import Fault
    from visionops.simulation.provisioned_devices import names
    from visionops_assets.dataset.versions.dataset_version import named_version
    from visionops_assets.delivery.enrolment import devices

    desk = desk_of_promoted
    desk.run("fleet", "keys", "init", "shapes")
    desk.run("fleet", "publish", "shapes", "--group", "line-1")
    project, slow = services.project("shapes"), Fault("slow", 40)

    def made(number: int) -> list[SimulatedDevice]:
        faults = [("line-1", slow), ("line-1-sim-01", Fault("silent", 0))]
        return provisioned_devices.provisioned(
            project, names(["line-1"], number), every=1, faults=faults, who="ada"
        )

    two = made(2)
    assert [[each.name for each in device.faults] for device in two] == [["slow", "silent"], ["slow"]]
    keys = {each.device: each.key_id for each in devices(services.artifacts(), "shapes")}
    assert set(keys) == {"line-1-sim-01", "line-1-sim-02"}
    assert [each.folder for each in made(3)[:2]] == [each.folder for each in two]
    again = {each.device: each.key_id for each in devices(services.artifacts(), "shapes")}
    assert keys.items() < again.items()
    version = named_version(services.lakefs(), services.artifacts(), project)
    held_out = {str(path) for path in version.split("holdout")["path"]}
    content = {services.lakefs().read("shapes", version.commit.id, path) for path in held_out}
    assert held_out and not content & {image.read_bytes() for image in two[0].images}
    # What devices know a renamed project as is what they are told.
    known = project.model_copy(
        update={"project": "forms", "delivery": project.delivery.model_copy(update={"known_as": "shapes"})}
    )
    shapes = desk.world.root / "projects" / "shapes.yaml"
    shapes.rename(away := desk.world.root / "shapes.yaml")
    desk.world.projects = [known]
    desk.save()
    (renamed,) = provisioned_devices.provisioned(known, names(["line-1"], 1), every=1, who="ada")
    told = json.loads((renamed.folder / "device.json").read_text())
    assert told["project"] == "shapes" and renamed.folder != two[0].folder
    assert not devices(services.artifacts(), "forms")
    (desk.world.root / "projects" / "forms.yaml").unlink()
    away.rename(shapes)
    # One whose folder was thrown away is given another key.
    shutil.rmtree(two[0].folder)
    made(1)
    found = {each.device: each.key_id for each in devices(services.artifacts(), "shapes")}
    assert (
        found["line-1-sim-01"] not in (keys["line-1-sim-01"], "")
        and (two[0].folder / "device.json").is_file()
    )


def test_a_device_is_revoked_while_nobody_else_writes_its_record(
    desk_of_promoted: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionops import services
    from visionops_assets.delivery import enrolment
    from visionops_assets.delivery.repository import lock_name

    desk = desk_of_promoted
    desk.run("fleet", "keys", "init", "shapes")
    provisioned(desk, tmp_path / "a")
    revoke, held = enrolment.revoke, []

    def revoked(*arguments: object, **options: object) -> object:
        with suppress(PromotionLocked), services.registry().lock(lock_name("shapes"), timeout=0):
            held.append("by nobody")
        return revoke(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(enrolment, "revoke", revoked)
    assert "is revoked" in desk.run("fleet", "revoke", "shapes", "cam-17", "--why", "stolen")
    assert held == []
