"""The JSON bodies that lakeFS operations take."""

from lakefs_local.http.parameters import Field, Schema

_TEXT = Field(needed=True)
_FLAG = Field("boolean")
_OVERRIDES = Field(
    "object", schema=Schema("CommitOverrides", {"message": Field(), "metadata": Field("strings")})
)

REPOSITORY = Schema(
    "RepositoryCreation",
    {
        "name": Field(needed=True, pattern="[a-z0-9][a-z0-9-]{2,62}"),
        "storage_namespace": Field(needed=True, pattern="(s3|gs|https?|mem|local|transient)://.*"),
        "storage_id": Field(),
        "default_branch": Field(),
        "sample_data": _FLAG,
        "read_only": _FLAG,
    },
)
REPOSITORY_METADATA = Schema("RepositoryMetadataSet", {"metadata": Field("strings", needed=True)})
REPOSITORY_METADATA_KEYS = Schema("RepositoryMetadataKeys", {"keys": Field("list", needed=True)})
PROTECTION_RULE = Schema("BranchProtectionRule", {"pattern": _TEXT})
BRANCH = Schema("BranchCreation", {"name": _TEXT, "source": _TEXT, "force": _FLAG, "hidden": _FLAG})
RESET = Schema(
    "ResetCreation",
    {
        "type": Field(needed=True, allowed=["object", "common_prefix", "reset"]),
        "path": Field(),
        "force": _FLAG,
    },
)
COMMIT = Schema(
    "CommitCreation",
    {
        "message": _TEXT,
        "metadata": Field("strings"),
        "date": Field("time"),
        "allow_empty": _FLAG,
        "force": _FLAG,
    },
)
MERGE = Schema(
    "Merge",
    {
        "message": Field(),
        "metadata": Field("strings"),
        "strategy": Field(),
        "force": _FLAG,
        "allow_empty": _FLAG,
        "squash_merge": _FLAG,
    },
)
REVERT = Schema(
    "RevertCreation",
    {
        "ref": _TEXT,
        "parent_number": Field("integer", needed=True),
        "commit_overrides": _OVERRIDES,
        "force": _FLAG,
        "allow_empty": _FLAG,
    },
)
CHERRY_PICK = Schema(
    "CherryPickCreation",
    {"ref": _TEXT, "parent_number": Field("integer"), "commit_overrides": _OVERRIDES, "force": _FLAG},
)
TAG = Schema("TagCreation", {"id": _TEXT, "ref": _TEXT, "force": _FLAG})
PATHS = Schema("PathList", {"paths": Field("list", needed=True)})
COPY = Schema("ObjectCopyCreation", {"src_path": _TEXT, "src_ref": Field(), "force": _FLAG, "shallow": _FLAG})
USER_METADATA = Schema("UpdateObjectUserMetadata", {"set": Field("strings", needed=True)})
STAGING = Schema(
    "StagingMetadata",
    {
        "staging": Field(
            "object",
            needed=True,
            schema=Schema("StagingLocation", {"physical_address": Field(), "presigned_url": Field()}),
        ),
        "checksum": _TEXT,
        "size_bytes": Field("integer", needed=True),
        "user_metadata": Field("strings"),
        "content_type": Field(),
        "mtime": Field("time"),
        "force": _FLAG,
    },
)
IMPORT = Schema(
    "ImportCreation",
    {
        "paths": Field(
            "list",
            needed=True,
            schema=Schema(
                "ImportLocation",
                {
                    "type": Field(needed=True, allowed=["common_prefix", "object"]),
                    "path": _TEXT,
                    "destination": _TEXT,
                },
            ),
        ),
        "commit": Field(
            "object",
            needed=True,
            schema=Schema(
                "CommitCreation", {"message": _TEXT, "metadata": Field("strings"), "date": Field("time")}
            ),
        ),
        "force": _FLAG,
    },
)
