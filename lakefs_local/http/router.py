"""Which operation a request asks for: a walk of its path, segment by segment, among every operation of the lakeFS
API (1.86), so that one this server lacks is told from a route that never was.
"""

from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")
OPERATIONS = """
GET /auth/capabilities get_auth_capabilities
POST /auth/external/principal/login external_principal_login
GET /auth/external/principals get_external_principal
GET /auth/groups list_groups
POST /auth/groups create_group
DELETE /auth/groups/{groupId} delete_group
GET /auth/groups/{groupId} get_group
GET /auth/groups/{groupId}/acl get_group_acl
POST /auth/groups/{groupId}/acl set_group_acl
GET /auth/groups/{groupId}/members list_group_members
DELETE /auth/groups/{groupId}/members/{userId} delete_group_membership
PUT /auth/groups/{groupId}/members/{userId} add_group_membership
GET /auth/groups/{groupId}/policies list_group_policies
DELETE /auth/groups/{groupId}/policies/{policyId} detach_policy_from_group
PUT /auth/groups/{groupId}/policies/{policyId} attach_policy_to_group
POST /auth/login login
GET /auth/policies list_policies
POST /auth/policies create_policy
DELETE /auth/policies/{policyId} delete_policy
GET /auth/policies/{policyId} get_policy
PUT /auth/policies/{policyId} update_policy
GET /auth/users list_users
POST /auth/users create_user
DELETE /auth/users/{userId} delete_user
GET /auth/users/{userId} get_user
GET /auth/users/{userId}/credentials list_user_credentials
POST /auth/users/{userId}/credentials create_credentials
DELETE /auth/users/{userId}/credentials/{accessKeyId} delete_credentials
GET /auth/users/{userId}/credentials/{accessKeyId} get_credentials
DELETE /auth/users/{userId}/external/principals delete_user_external_principal
POST /auth/users/{userId}/external/principals create_user_external_principal
GET /auth/users/{userId}/external/principals/ls list_user_external_principals
GET /auth/users/{userId}/groups list_user_groups
GET /auth/users/{userId}/policies list_user_policies
DELETE /auth/users/{userId}/policies/{policyId} detach_policy_from_user
PUT /auth/users/{userId}/policies/{policyId} attach_policy_to_user
GET /config get_config
GET /config/garbage-collection get_garbage_collection_config
GET /config/storage get_storage_config
GET /config/version get_lake_fs_version
GET /healthcheck health_check
GET /oidc/callback oauth_callback
GET /repositories list_repositories
POST /repositories create_repository
DELETE /repositories/{repository} delete_repository
GET /repositories/{repository} get_repository
GET /repositories/{repository}/actions/runs list_repository_runs
GET /repositories/{repository}/actions/runs/{run_id} get_run
GET /repositories/{repository}/actions/runs/{run_id}/hooks list_run_hooks
GET /repositories/{repository}/actions/runs/{run_id}/hooks/{hook_run_id}/output get_run_hook_output
DELETE /repositories/{repository}/branch_protection internal_delete_branch_protection_rule
GET /repositories/{repository}/branch_protection internal_get_branch_protection_rules
POST /repositories/{repository}/branch_protection internal_create_branch_protection_rule
GET /repositories/{repository}/branch_protection/set_allowed create_branch_protection_rule_preflight
GET /repositories/{repository}/branches list_branches
POST /repositories/{repository}/branches create_branch
DELETE /repositories/{repository}/branches/{branch} delete_branch
GET /repositories/{repository}/branches/{branch} get_branch
PUT /repositories/{repository}/branches/{branch} reset_branch
POST /repositories/{repository}/branches/{branch}/cherry-pick cherry_pick
POST /repositories/{repository}/branches/{branch}/commits commit
GET /repositories/{repository}/branches/{branch}/diff diff_branch
PUT /repositories/{repository}/branches/{branch}/hard_reset hard_reset_branch
DELETE /repositories/{repository}/branches/{branch}/import import_cancel
GET /repositories/{repository}/branches/{branch}/import import_status
POST /repositories/{repository}/branches/{branch}/import import_start
DELETE /repositories/{repository}/branches/{branch}/objects delete_object
POST /repositories/{repository}/branches/{branch}/objects upload_object
PUT /repositories/{repository}/branches/{branch}/objects stage_object
POST /repositories/{repository}/branches/{branch}/objects/copy copy_object
POST /repositories/{repository}/branches/{branch}/objects/delete delete_objects
GET /repositories/{repository}/branches/{branch}/objects/stage_allowed upload_object_preflight
PUT /repositories/{repository}/branches/{branch}/objects/stat/user_metadata update_object_user_metadata
POST /repositories/{repository}/branches/{branch}/revert revert_branch
GET /repositories/{repository}/branches/{branch}/staging/backing get_physical_address
PUT /repositories/{repository}/branches/{branch}/staging/backing link_physical_address
POST /repositories/{repository}/branches/{branch}/staging/pmpu create_presign_multipart_upload
DELETE /repositories/{repository}/branches/{branch}/staging/pmpu/{uploadId} abort_presign_multipart_upload
PUT /repositories/{repository}/branches/{branch}/staging/pmpu/{uploadId} complete_presign_multipart_upload
PUT /repositories/{repository}/branches/{branch}/staging/pmpu/{uploadId}/parts/{partNumber} upload_part
PUT /repositories/{repository}/branches/{branch}/staging/pmpu/{uploadId}/parts/{partNumber}/copy upload_part_copy
POST /repositories/{repository}/commits create_commit_record
GET /repositories/{repository}/commits/{commitId} get_commit
GET /repositories/{repository}/dump dump_status
POST /repositories/{repository}/dump dump_submit
POST /repositories/{repository}/gc/prepare_commits prepare_garbage_collection_commits
POST /repositories/{repository}/gc/prepare_commits/async prepare_garbage_collection_commits_async
GET /repositories/{repository}/gc/prepare_commits/status prepare_garbage_collection_commits_status
POST /repositories/{repository}/gc/prepare_uncommited prepare_garbage_collection_uncommitted
DELETE /repositories/{repository}/gc/rules internal_delete_garbage_collection_rules
GET /repositories/{repository}/gc/rules internal_get_garbage_collection_rules
POST /repositories/{repository}/gc/rules internal_set_garbage_collection_rules
GET /repositories/{repository}/gc/rules/set_allowed set_garbage_collection_rules_preflight
DELETE /repositories/{repository}/metadata delete_repository_metadata
GET /repositories/{repository}/metadata get_repository_metadata
POST /repositories/{repository}/metadata set_repository_metadata
GET /repositories/{repository}/metadata/meta_range/{meta_range} get_meta_range
GET /repositories/{repository}/metadata/object/{type}/{object_id} get_metadata_object
GET /repositories/{repository}/metadata/range/{range} get_range
GET /repositories/{repository}/pulls list_pull_requests
POST /repositories/{repository}/pulls create_pull_request
GET /repositories/{repository}/pulls/{pull_request} get_pull_request
PATCH /repositories/{repository}/pulls/{pull_request} update_pull_request
PUT /repositories/{repository}/pulls/{pull_request}/merge merge_pull_request
PUT /repositories/{repository}/refs/dump dump_refs
PUT /repositories/{repository}/refs/restore restore_refs
POST /repositories/{repository}/refs/{branch}/symlink create_symlink_file
GET /repositories/{repository}/refs/{leftRef}/diff/{rightRef} diff_refs
GET /repositories/{repository}/refs/{ref}/commits log_commits
GET /repositories/{repository}/refs/{ref}/objects get_object
HEAD /repositories/{repository}/refs/{ref}/objects head_object
GET /repositories/{repository}/refs/{ref}/objects/ls list_objects
GET /repositories/{repository}/refs/{ref}/objects/stat stat_object
GET /repositories/{repository}/refs/{ref}/objects/underlyingProperties get_underlying_properties
GET /repositories/{repository}/refs/{sourceRef}/merge/{destinationBranch} find_merge_base
POST /repositories/{repository}/refs/{sourceRef}/merge/{destinationBranch} merge_into_branch
GET /repositories/{repository}/restore restore_status
POST /repositories/{repository}/restore restore_submit
GET /repositories/{repository}/settings/branch_protection get_branch_protection_rules
PUT /repositories/{repository}/settings/branch_protection set_branch_protection_rules
DELETE /repositories/{repository}/settings/gc_rules delete_gc_rules
GET /repositories/{repository}/settings/gc_rules get_gc_rules
PUT /repositories/{repository}/settings/gc_rules set_gc_rules
GET /repositories/{repository}/tags list_tags
POST /repositories/{repository}/tags create_tag
DELETE /repositories/{repository}/tags/{tag} delete_tag
GET /repositories/{repository}/tags/{tag} get_tag
POST /setup_comm_prefs setup_comm_prefs
GET /setup_lakefs get_setup_state
POST /setup_lakefs setup
POST /statistics post_stats_events
POST /sts/login sts_login
GET /usage-report/summary get_usage_report_summary
GET /user get_current_user
"""


class Router(Generic[T]):
    """Maps method and path template (`/a/{b}`) to a value; a fixed segment goes before a parameter."""

    def __init__(self) -> None:
        self._fixed: dict[str, Router[T]] = {}
        self._parameter: Router[T] | None = None
        self._found: dict[str, tuple[T, list[str]]] = {}

    def add(self, method: str, template: str, value: T) -> None:
        """Raises ValueError if the method and template are taken."""
        here: Router[T] = self
        names = []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                here._parameter = here._parameter or Router()
                here = here._parameter
            else:
                here = here._fixed.setdefault(segment, Router())
        if method in here._found:
            raise ValueError(f"two routes for {method} {template}")
        here._found[method] = (value, names)

    def find(self, method: str, raw_path: str) -> tuple[T, dict[str, str]] | None:
        """The value and the parameters, for a path still percent-encoded; None if there is no such route.

        Raises UnicodeDecodeError for a parameter that is not UTF-8.
        """
        match = self._walk(method, raw_path.removeprefix("/").split("/"), 0, [])
        if match is None:
            return None
        (value, names), parts = match
        return value, dict(zip(names, (unquote_to_bytes(part).decode() for part in parts), strict=True))

    def _walk(
        self, method: str, segments: list[str], at: int, parts: list[str]
    ) -> tuple[tuple[T, list[str]], list[str]] | None:
        if at == len(segments):
            return (self._found[method], parts) if method in self._found else None
        segment = segments[at]
        fixed = self._fixed.get(segment)
        found = fixed._walk(method, segments, at + 1, parts) if fixed else None
        if found is None and self._parameter is not None and segment:
            found = self._parameter._walk(method, segments, at + 1, [*parts, segment])
        return found


def operations() -> list[tuple[str, str, str]]:
    """(method, path template, operation name), the names as the official Python client has them."""
    return [(method, path, name) for method, path, name in map(str.split, OPERATIONS.strip().splitlines())]
