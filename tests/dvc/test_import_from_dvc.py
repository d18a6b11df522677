"""Batches from a DVC repository: what a revision has, with where it is from; or one message, and main as it was."""

import hashlib
import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from repositories import DVCRepository

from tests.commands.desk import Desk
from tests.world import shapes_project
from visionops.cli.source_options import opened_source
from visionops.dvc import source as dvc_source
from visionops.dvc.source_address import DVCError
from visionops_assets.dataset.versions.dataset_version import manifest_at
from visionops_assets.dataset.versions.manifest import manifest_frame, read_manifest


def published(desk: Desk) -> Any:
    """The rows of main."""
    world = desk.world
    manifest = manifest_at(world.lakefs, world.artifacts, world.project, "main")
    return manifest_frame(read_manifest(manifest, world.artifacts))


def staged(desk: Desk) -> list[Path]:
    return [path for path in (desk.world.root / "cache" / "dvc").glob("*") if path.is_dir()]


def test_a_revision_is_imported_with_its_provenance(desk: Desk, repository: DVCRepository):
    said = desk.run("import", "shapes", f"dvc://{repository.root}/data@v1", "--batch", "week-01")

    assert "30 images published" in said
    rows = published(desk)
    assert len(rows) == 30
    assert all(f"/images/{label}/" in path for path, label in zip(rows["path"], rows["label"], strict=True))
    metadata = desk.world.lakefs.head("shapes").metadata
    assert {name: value for name, value in metadata.items() if name.startswith("visionops.dvc.")} == {
        "visionops.dvc.repository": str(repository.root),
        "visionops.dvc.commit": repository.git("rev-parse", "v1"),
        "visionops.dvc.revision": "v1",
        "visionops.dvc.path": "data",
        "visionops.dvc.digest": repository.git("show", "v1:data.dvc").partition("md5: ")[2].split()[0],
    }
    assert staged(desk) == [], "a copy that was imported goes"
    said = desk.run("import", "shapes", f"dvc://{repository.root}/data@v2", "--batch", "week-01")
    assert "42 images published" in said, "the same batch at a later revision replaces it"


def test_what_is_committed_is_read_not_the_working_tree(desk: Desk, repository: DVCRepository):
    shutil.rmtree(repository.root / "data" / "bar")
    desk.run("import", "shapes", f"dvc://{repository.root}/data", "--batch", "week-01")
    assert len(published(desk)) == 42


def test_labels_in_git_and_images_in_dvc_are_one_batch(desk: Desk, repository: DVCRepository):
    files = sorted((repository.root / "data").rglob("*.png"))
    table = repository.root / "labelled" / "labels.csv"
    for file in files:
        (table.parent / "images").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, table.parent / "images" / file.name)
    lines = [f"images/{file.name},{file.parent.name},line-{number % 2}" for number, file in enumerate(files)]
    table.write_text("\n".join(["path,label,group", *lines]))
    repository.add("labelled/images")
    repository.commit("Labelled by hand")
    desk.run("import", "shapes", f"dvc://{repository.root}/labelled", "--batch", "week-01")
    assert set(published(desk)["group"]) == {"line-0", "line-1"}


@pytest.fixture
def remote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Callable[[int, int], int]
) -> Iterator[tuple[str, str | None]]:
    """Address and endpoint of a remote store: a folder, or with the stated counts an S3 bucket."""
    if not count(0, 1):
        yield str(tmp_path / "store"), None
        return
    import boto3
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        bucket, endpoint = f"dvc-{uuid.uuid4().hex[:8]}", f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
        yield f"s3://{bucket}/store", endpoint
    finally:
        server.stop()


def test_a_remote_and_a_git_url_serve_what_no_cache_has(
    desk: Desk, repository: DVCRepository, remote: tuple[str, str | None]
):
    repository.remote(*remote)
    repository.push()
    repository.commit("Keep the images elsewhere")
    shutil.rmtree(repository.root / ".dvc" / "cache")

    desk.run("import", "shapes", f"dvc://file://{repository.root}//data@main", "--batch", "week-01")
    assert len(published(desk)) == 42
    said = desk.world.lakefs.head("shapes").metadata["visionops.dvc.repository"]
    assert said == f"file://{repository.root}"


def break_nothing(repository: DVCRepository) -> None:
    pass


def lose_an_object(repository: DVCRepository) -> None:
    repository.objects()[0].unlink()


def lose_an_object_of_a_remote(repository: DVCRepository) -> None:
    repository.remote(str(repository.root.parent / "store"))
    repository.commit("Keep the images on a disk")
    shutil.rmtree(repository.root / ".dvc" / "cache" / "files" / "md5" / repository.objects()[0].parent.name)


def lose_the_list(repository: DVCRepository) -> None:
    for path in (repository.root / ".dvc" / "cache" / "files" / "md5").glob("*/*.dir"):
        path.unlink()


def alter_an_object(repository: DVCRepository) -> None:
    path = repository.objects()[0]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")


def leave_git(repository: DVCRepository) -> None:
    shutil.rmtree(repository.root / ".git")
    (repository.root / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")


@pytest.mark.parametrize(
    ("break_it", "path", "said"),
    [
        (
            lose_an_object,
            "/data",
            r"^data/\w+/.*\.png of .*parts \(MD5 \w{32}\) is not in DVC's cache, and there is no",
        ),
        (
            lose_an_object_of_a_remote,
            "/data",
            r"is neither in DVC's cache nor in its remote store: run `dvc push`",
        ),
        (lose_the_list, "/data", r"the list of its files is neither in DVC's cache nor in its remote"),
        (alter_an_object, "/data", r"DVC's storage has other bytes \(MD5 \w{32}\) than were committed"),
        (break_nothing, "/data@v9", r"dvc://.*//data@v9: .*v9"),
        (break_nothing, "/datum@v1", r"has no datum in commit \w{12}: `dvc list"),
        (break_nothing, "/.dvcignore@v1", r"not tracked by DVC in commit \w{12}"),
        (leave_git, "/data", r"is not in git, so a batch could not say which state it is of"),
    ],
)
def test_what_cannot_be_read_is_one_message_and_main_stays(
    desk: Desk, repository: DVCRepository, break_it: Any, path: str, said: str
):
    desk.world.lakefs.create_repository("shapes")
    head = desk.world.lakefs.head("shapes").id
    break_it(repository)
    with pytest.raises(DVCError, match=said) as error:
        desk.run("import", "shapes", f"dvc://{repository.root}{path}", "--batch", "week-01")
    assert "\n" not in str(error.value)
    assert desk.world.lakefs.head("shapes").id == head
    assert desk.world.lakefs.branches("shapes", "ingest-") == []


def test_without_dvc_the_extra_is_named(repository: DVCRepository, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "dvc.api", None)
    with (
        pytest.raises(DVCError, match=r"needs DVC: run `pip install 'visionops\[dvc\]'`"),
        opened_source(f"dvc://{repository.root}/data", lambda stage, done, of: None),
    ):
        pass


def test_a_copy_that_broke_off_goes_on_where_it_stopped(
    desk: Desk, repository: DVCRepository, monkeypatch: pytest.MonkeyPatch
):
    fetched: list[str] = []
    original = dvc_source._download

    def counting(found: Any, file: Any, partial: Path, address: Any) -> None:
        fetched.append(file.name)
        original(found, file, partial, address)

    monkeypatch.setattr(dvc_source, "_download", counting)
    lost = repository.objects()[0]
    kept = lost.read_bytes()
    lost.unlink()
    source = f"dvc://{repository.root}/data"
    with pytest.raises(DVCError, match="is not in DVC's cache"):
        desk.run("import", "shapes", source, "--batch", "week-01")
    lost.write_bytes(kept)
    desk.run("import", "shapes", source, "--batch", "week-01")
    assert len(published(desk)) == 42
    again = [name for name in set(fetched) if fetched.count(name) > 1]
    assert len(again) == 1, "only the one that was missing is asked for again"


def test_a_copy_is_never_where_images_stay(desk: Desk, repository: DVCRepository):
    desk.world.projects = [shapes_project(source_is_immutable=True)]
    desk.save()
    desk.run("import", "shapes", f"dvc://{repository.root}/data@v1", "--batch", "week-01")
    path = published(desk)["path"][0]
    assert desk.world.lakefs.read("shapes", "main", path), "its bytes are lakeFS's own"


SECRET = b"path,label\nsecret,bar\n"


def listed(repository: DVCRepository, entries: list[dict[str, str]]) -> None:
    """Have `data` be a list of files that somebody wrote by hand."""
    content = json.dumps(entries).encode()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    place = repository.root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / f"{digest[2:]}.dir"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    tracked = f"outs:\n- md5: {digest}.dir\n  hash: md5\n  path: data\n  nfiles: {len(entries)}\n"
    (repository.root / "data.dvc").write_text(tracked)


def without_a_digest(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "mix" / "labels.csv.dvc").write_text("outs:\n- path: labels.csv\n")
    (repository.root / "mix" / "labels.csv").symlink_to(secret)


def with_another_digest(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "mix" / "labels.csv.dvc").write_text(
        "outs:\n- path: labels.csv\n  etag: abc\n  size: 9\n"
    )


def absolute(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "mix" / "labels.csv.dvc").write_text(f"outs:\n- path: {secret}\n  cache: false\n")


def outside(repository: DVCRepository, secret: Path) -> None:
    text = "outs:\n- path: ../../secret.csv\n  cache: false\n"
    (repository.root / "mix" / "labels.csv.dvc").write_text(text)


def named_outside(repository: DVCRepository, secret: Path, name: str = "../../../escaped.png") -> None:
    digest = repository.objects()[0]
    listed(repository, [{"md5": digest.parent.name + digest.name, "relpath": name}])


def named_from_the_root(repository: DVCRepository, secret: Path) -> None:
    named_outside(repository, secret, f"{secret.parent}/escaped.png")


def named_there_and_back(repository: DVCRepository, secret: Path) -> None:
    named_outside(repository, secret, "a/../../../../escaped.png")


def digest_outside(repository: DVCRepository, secret: Path) -> None:
    listed(repository, [{"md5": f"../../../../../../../../../..{secret}", "relpath": "labels.csv"}])


def linked(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "mix" / "labels.csv").symlink_to(secret)


def linked_folder(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "mix" / "more").symlink_to(secret.parent)


def imported(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "mix" / "labels.csv.dvc").write_text(
        f"frozen: true\ndeps:\n- path: {secret}\nouts:\n- path: labels.csv\n  md5: {'0' * 32}\n"
    )


def no_mapping(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "mix" / "labels.csv.dvc").write_text("- " * 2000)


def aliases(repository: DVCRepository, secret: Path) -> None:
    """Some hundred bytes that DVC would write out as gigabytes."""
    lines = ["vars:", "- a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    lines += ["stages:", "  made:", "    cmd: echo ${a8}"]
    (repository.root / "dvc.yaml").write_text("\n".join(lines))


def aliases_elsewhere(repository: DVCRepository, secret: Path) -> None:
    """The same in a file that the pipeline names, of any name and in any folder."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (repository.root / "mix" / "settings").write_text("\n".join(lines))
    stage = "  made:\n    wdir: mix\n    vars:\n    - settings:a8\n    cmd: echo ${a8}\n"
    (repository.root / "dvc.yaml").write_text(f"stages:\n{stage}")


def matrix(repository: DVCRepository, secret: Path) -> None:
    """Some kilobytes that DVC would write out as a thousand million stages."""
    sides = "".join(f"      s{n}: {list(range(1000))}\n" for n in range(3))
    (repository.root / "dvc.yaml").write_text(f"stages:\n  made:\n    matrix:\n{sides}    cmd: echo\n")


def named_matrix(repository: DVCRepository, secret: Path) -> None:
    (repository.root / "params.yaml").write_text(f"all: {list(range(1000))}\n")
    sides = "".join(f"      s{n}: ${{all}}\n" for n in range(3))
    (repository.root / "dvc.yaml").write_text(f"stages:\n  made:\n    matrix:\n{sides}    cmd: echo\n")


def secret_by_vars(repository: DVCRepository, secret: Path) -> None:
    """A file of the machine as parameters of a pipeline, which would name an output by what it says."""
    outside = secret.with_suffix(".yaml")
    outside.write_text("token: escaped.png\n")
    (repository.root / "mix" / "in.yaml").symlink_to(outside)
    stage = "  made:\n    cmd: echo\n    outs:\n    - mix/${token}\n"
    (repository.root / "dvc.yaml").write_text(
        f"vars:\n- {outside}\n- ../secret.yaml\n- mix/in.yaml\nstages:\n{stage}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "cloned"])
@pytest.mark.parametrize(
    "harm",
    [
        without_a_digest,
        with_another_digest,
        absolute,
        outside,
        named_outside,
        named_from_the_root,
        named_there_and_back,
        digest_outside,
        linked,
        linked_folder,
        imported,
        no_mapping,
        aliases,
        aliases_elsewhere,
        matrix,
        named_matrix,
        secret_by_vars,
    ],
)
def test_a_repository_of_somebody_else_takes_nothing_from_outside_of_it(
    desk: Desk, repository: DVCRepository, tmp_path: Path, harm: Any, kind: str
):
    secret = tmp_path / "secret.csv"
    secret.write_bytes(SECRET)
    repository.draw("mix/images", 6, seed=3)
    repository.add("mix/images")
    harm(repository, secret)
    store = tmp_path / "store"
    repository.remote(str(store))
    shutil.copytree(repository.root / ".dvc" / "cache", store)
    repository.commit("Harmless")
    desk.world.lakefs.create_repository("shapes")
    repository_ = str(repository.root) if kind == "local" else f"file://{repository.root}"
    path = (
        "data" if ("outside" in harm.__name__ and harm is not outside) or "named" in harm.__name__ else "mix"
    )
    try:
        said = desk.run("import", "shapes", f"dvc://{repository_}//{path}", "--batch", "week-01")
    except DVCError as refused:
        said = str(refused)
        assert "\n" not in said
    if "linked" in harm.__name__:
        assert "is a link" in said
    if "aliases" in harm.__name__:
        assert "has aliases, which are not followed" in said
    if "matrix" in harm.__name__:
        assert "more than 10,000 stages" in said
    assert "secret,bar" not in said and "escaped.png" not in said
    assert not list(tmp_path.rglob("escaped.png"))
    for entry in desk.world.lakefs.objects("shapes", "main", ""):
        assert desk.world.lakefs.read("shapes", "main", entry.path) != SECRET
    copies = [file for folder in staged(desk) for file in folder.rglob("*") if file.is_file()]
    assert all(file.read_bytes() != SECRET for file in copies)


def test_of_a_repositorys_configuration_only_the_remotes_count(
    desk: Desk, repository: DVCRepository, tmp_path: Path
):
    config = repository.root / ".dvc" / "config"
    places = {name: tmp_path / "theirs" / name for name in ("state", "index")}
    config.write_text(f"[state]\n    dir = {places['state']}\n[index]\n    dir = {places['index']}\n")
    repository.commit("Somebody's settings")
    desk.run("import", "shapes", f"dvc://{repository.root}/data@main", "--batch", "week-01")
    assert len(published(desk)) == 42
    assert not (tmp_path / "theirs").exists()


def test_a_copy_is_its_owners_alone(desk: Desk, repository: DVCRepository, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    original = dvc_source._look

    def looking(*arguments: Any) -> Any:
        seen.extend(folder.stat().st_mode & 0o777 for folder in staged(desk) if folder.is_dir())
        return original(*arguments)

    monkeypatch.setattr(dvc_source, "_look", looking)
    desk.run("import", "shapes", f"dvc://{repository.root}/data", "--batch", "week-01")
    assert seen and set(seen) == {0o700}
