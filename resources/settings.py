"""Every setting of the environment: what it is called, what it takes, what holds without it, and what it is for.

A group is read where it is needed and as the environment then stands: `Cache.read().mib`. A variable that is empty,
as CI leaves it, is not set. README and docs/ have their tables from here by `make docs`. The embedded lakeFS server
and the device's agent, which have no pydantic, read their own: what they share is declared here too. Secrets that
Dagster's resources take are named to it, as `EnvVar`, and not read into what it stores.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import SecretStr, StringConstraints

from edge.images.bounds import ImageLimits
from resources.variables import Group, SettingInvalid, setting

Text = Annotated[str, StringConstraints(strip_whitespace=True)]
# What answers at it is `visionops doctor`'s to try.
Address = Annotated[str, "an address"]
Place = Annotated[str, "a path or an address"]
DAGSTER_PAGE = "http://127.0.0.1:3000"


class Places(Group):
    """Where things lie."""

    home: Path | None = setting(
        "VISIONOPS_HOME",
        "folder of all local state: cache, unfinished trainings, locks; safe to delete",
        without="`.visionops` beside `definitions.py`",
    )
    projects: Path | None = setting(
        "VISIONOPS_PROJECTS",
        "folder of project files",
        without="`projects` beside `definitions.py`",
        see="project-file.md",
    )
    dagster_home: Path | None = setting(
        "DAGSTER_HOME", "folder of the Dagster instance", without="`dagster` in `VISIONOPS_HOME`"
    )
    artifacts: Place | None = setting(
        "VISIONOPS_ARTIFACTS",
        "folder or `s3://…` for tables and records",
        without="`artifacts` in `VISIONOPS_HOME`",
    )
    drop: Place | None = setting(
        "VISIONOPS_DROP",
        "folder or `s3://…` where batches arrive",
        without="`drop` in `VISIONOPS_HOME`",
        see="data.md",
    )
    spool: Place | None = setting(
        "VISIONOPS_SPOOL",
        "folder or `s3://…` where predictions are left to be collected",
        without="`spool` in `VISIONOPS_HOME`",
        see="monitoring.md",
    )
    edge: Place | None = setting(
        "VISIONOPS_EDGE",
        "folder or `s3://…` that devices fetch from",
        without="`edge/repository` in `VISIONOPS_HOME`",
        see="delivery.md",
    )


class LakeFS(Group):
    """The lakeFS server."""

    endpoint: Address | None = setting(
        "LAKEFS_ENDPOINT",
        "address of any lakeFS server, without `/api/v1`",
        without="an embedded server on a folder",
        see="lakefs_local.md",
    )
    access_key_id: SecretStr | None = setting(
        "LAKEFS_ACCESS_KEY_ID",
        "its key: reading and writing the projects' repositories, creating them at the first import",
        without="that of the embedded one",
    )
    secret_access_key: SecretStr | None = setting(
        "LAKEFS_SECRET_ACCESS_KEY", "the key's secret", without="that of the embedded one"
    )
    ui_url: Address | None = setting(
        "LAKEFS_UI_URL", "where a browser finds lakeFS, for links", without="`LAKEFS_ENDPOINT`"
    )


class MLflow(Group):
    """The MLflow server."""

    tracking_uri: Address | None = setting(
        "MLFLOW_TRACKING_URI",
        "any MLflow server, or a database of its own",
        without="sqlite and a folder in `VISIONOPS_HOME`",
    )
    ui_url: Address | None = setting(
        "MLFLOW_UI_URL", "where a browser finds MLflow, for links", without="that of `make dev`"
    )
    username: str | None = setting("MLFLOW_TRACKING_USERNAME", "user of the server, as MLflow reads it")
    password: SecretStr | None = setting("MLFLOW_TRACKING_PASSWORD", "their password, as MLflow reads it")
    token: SecretStr | None = setting("MLFLOW_TRACKING_TOKEN", "or a bearer token, as MLflow reads it")


class Dagster(Group):
    """Dagster, and what keeps machines apart."""

    postgres_url: SecretStr | None = setting(
        "DAGSTER_POSTGRES_URL",
        "`postgresql://user:secret@host/database` for runs, events and schedules; needs "
        "`pip install 'visionops[postgres]'`",
        without="sqlite",
    )
    compute_logs: Address | None = setting(
        "VISIONOPS_COMPUTE_LOGS", "`s3://bucket/prefix` for what steps print", without="a folder"
    )
    ui_url: Address = setting(
        "DAGSTER_UI_URL",
        "where a browser finds Dagster, for links; the receiver of lakeFS's calls hands runs to it",
        DAGSTER_PAGE,
    )
    lock_url: SecretStr | None = setting(
        "VISIONOPS_LOCK_URL",
        "Postgres that serialises promotion where several machines promote",
        without="a lock file",
        see="promotion.md",
    )


class S3(Group):
    """S3, as boto3 reads it; a role of the machine will do for the keys."""

    endpoint: Address | None = setting(
        "AWS_ENDPOINT_URL", "an S3 that is not AWS's: MinIO, Ceph", without="AWS"
    )
    access_key_id: SecretStr | None = setting("AWS_ACCESS_KEY_ID", "its key")
    secret_access_key: SecretStr | None = setting("AWS_SECRET_ACCESS_KEY", "the key's secret")
    session_token: SecretStr | None = setting("AWS_SESSION_TOKEN", "what goes with a key for a while")
    region: str | None = setting("AWS_REGION", "its region", without="`AWS_DEFAULT_REGION`")
    default_region: str | None = setting("AWS_DEFAULT_REGION", "its region, as boto3 calls it")


class Access(Group):
    """How callers are known."""

    webhook_token: SecretStr | None = setting(
        "VISIONOPS_WEBHOOK_TOKEN",
        "the secret by which lakeFS's calls are known",
        without="one of this home",
        see="ci-cd.md",
    )
    action_token: SecretStr | None = setting(
        "LAKEFSACTION_VISIONOPS_TOKEN",
        "the same, in the environment of the lakeFS server",
        without="the embedded one has it",
    )
    serve_token: SecretStr | None = setting(
        "VISIONOPS_SERVE_TOKEN",
        "what clients of `serve` have to send",
        without="nobody is asked",
        see="monitoring.md#what-a-client-may-take",
    )
    metrics_token: SecretStr | None = setting(
        "VISIONOPS_METRICS_TOKEN",
        "what clients of `metrics` have to send",
        without="nobody is asked",
        see="monitoring.md#what-a-client-may-take",
    )


class People(Group):
    """Who acts, and who is told."""

    actor: Text | None = setting(
        "VISIONOPS_ACTOR", "who approves, rolls back and holds", without="those commands refuse"
    )
    error_webhook: SecretStr | None = setting(
        "VISIONOPS_ERROR_WEBHOOK", "who is told of errors", without="nobody", see="alerts.md"
    )
    verdict_webhook: SecretStr | None = setting(
        "VISIONOPS_VERDICT_WEBHOOK", "who is told of verdicts", without="nobody", see="alerts.md"
    )
    debug: str | None = setting(
        "VISIONOPS_DEBUG", "any value: errors with their traceback", without="one line"
    )


class Devices(Group):
    """Signing for devices, and a device itself."""

    keys: Annotated[Text, "a path"] | None = setting(
        "VISIONOPS_EDGE_KEYS",
        "YAML file: which keys sign for devices",
        without="keys made in `VISIONOPS_HOME`",
        see="delivery.md#keys",
    )
    pin: SecretStr | None = setting(
        "VISIONOPS_EDGE_PIN", "the PIN of a token with keys", without="it is typed", see="delivery.md#keys"
    )
    device: Path = setting(
        "VISIONOPS_EDGE_DEVICE",
        "folder of a device's files, where `visionops-edge` is not told by `--device`",
        Path("/etc/visionops-edge"),
        see="delivery.md",
    )


class Cache(Group):
    """The cache of samples."""

    mib: float | None = setting(
        "VISIONOPS_CACHE_MIB",
        "MiB that the samples of one cache may take",
        without="the whole disk",
        see="data.md#formats-on-disk",
        ge=1,
    )
    keeps: Literal["decoded", "encoded"] = setting(
        "VISIONOPS_CACHE_KEEPS",
        "whether samples are kept decoded, or smaller and decoded each time",
        "decoded",
        see="data.md#formats-on-disk",
    )


class ImageBounds(Group):
    """What one image may ask for; `edge.images.bounds` reads them, on a device too."""

    mib: float = setting(
        "VISIONOPS_IMAGE_MIB",
        "MiB once decoded: pixels × channels × bytes of each, three channels at least; a worker has three times that",
        ImageLimits.memory >> 20,
        ge=1,
    )
    seconds: float = setting(
        "VISIONOPS_IMAGE_SECONDS",
        "processor time to decode it; ten times that by the clock. `serve` has `--decode-seconds`",
        ImageLimits.seconds,
        ge=0.01,
    )
    scans: float = setting("VISIONOPS_IMAGE_SCANS", "scans of a progressive JPEG", ImageLimits.scans, ge=1)
    frames: float = setting("VISIONOPS_IMAGE_FRAMES", "frames of an animation", ImageLimits.frames, ge=1)
    directories: float = setting(
        "VISIONOPS_IMAGE_DIRECTORIES",
        "directories of a TIFF, and entries of each",
        ImageLimits.directories,
        ge=1,
    )
    workers: float | None = setting(
        "VISIONOPS_IMAGE_WORKERS", "workers of a process", without="its processors, 2 to 4", ge=1
    )


class SourceBounds(Group):
    """What a source may take."""

    times: int = setting(
        "VISIONOPS_SOURCE_TIMES",
        "how many times its own size an archive, IDX file or Parquet table may become, beyond 256 MiB (tables 64 MiB, "
        "200,000 rows)",
        30,
        ge=1,
    )
    members: int = setting("VISIONOPS_SOURCE_MEMBERS", "files and folders of an archive", 5_000_000, ge=1)
    header_kib: int = setting(
        "VISIONOPS_SOURCE_HEADER_KIB", "KiB of the header of a file in a tar", 1024, ge=1
    )
    value_mib: int = setting(
        "VISIONOPS_SOURCE_VALUE_MIB", "a line of CSV, a value of JSON, in millions of characters", 16, ge=1
    )
    text_mib: int = setting(
        "VISIONOPS_SOURCE_TEXT_MIB", "MiB of a text that is read whole, such as a list of images", 256, ge=1
    )
    settings_kib: int = setting("VISIONOPS_SOURCE_SETTINGS_KIB", "KiB of a YAML file", 1024, ge=1)
    columns: int = setting("VISIONOPS_SOURCE_COLUMNS", "columns of a table", 4096, ge=1)
    depth: int = setting(
        # Python itself follows so deep, with room for what calls the reader.
        "VISIONOPS_SOURCE_DEPTH",
        "how deep JSON, YAML, XML and names in archives nest",
        100,
        ge=1,
        le=300,
    )
    table_mib: int = setting(
        "VISIONOPS_SOURCE_TABLE_MIB",
        "MiB of memory to read a Parquet table, beside four times its size",
        512,
        ge=16,
    )


class Accounts(Group):
    """What other tools read for themselves; each may stand in a file, `NAME_FILE`, too."""

    wandb: SecretStr | None = setting(
        "WANDB_API_KEY", "key of Weights & Biases", without="what `wandb login` left", see="experiments.md"
    )
    repository: SecretStr | None = setting("REPO_TOKEN", "token by which CML comments", see="ci-cd.md")
    github: SecretStr | None = setting("GH_TOKEN", "token by which `gh` comments", see="ci-cd.md")
    gitlab: SecretStr | None = setting("GITLAB_TOKEN", "token by which `glab` comments", see="ci-cd.md")


GROUPS = (
    Places,
    LakeFS,
    MLflow,
    Dagster,
    S3,
    Access,
    People,
    Devices,
    Cache,
    ImageBounds,
    SourceBounds,
    Accounts,
)
VARIABLES = {name: field for group in GROUPS for name, field in group.fields().items()}


def given(variable: str) -> str:
    """The text of a declared variable, empty where it is not set: for what asks by name. Raises KeyError for others."""
    if variable not in VARIABLES:
        raise KeyError(variable)
    return os.environ.get(variable, "")


def problems() -> list[str]:
    """What is wrong with what is set, a line for each group that cannot be read."""
    found = []
    for group in GROUPS:
        try:
            group.read()
        except SettingInvalid as error:
            found.append(str(error))
    return found
