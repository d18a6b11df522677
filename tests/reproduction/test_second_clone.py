"""A version is made again from a clone that knows only where lakeFS and MLflow are."""

import json

from past_and_present import SecondClone, git

from visionops_assets.reproduction.certificate import Certificate
from visionops_assets.reproduction.records import TAG_PAGE, TAG_RESULT


def test_it_is_identical_though_code_dependency_and_data_moved_on(second_clone: SecondClone) -> None:
    answer = second_clone.reproduce("--version", "1")
    assert answer.status == 0, answer.errors
    found = answer.found
    assert (found["result"], found["compared"]) == ("identical", "weights"), found["words"]
    assert found["reproduced_weights_sha256"] == found["original_weights_sha256"]
    assert "scaling==1.0" in answer.errors, "the environment of then is named"
    assert all(pair["original"] == pair["reproduced"] for pair in found["metrics"])
    assert [one["name"] for one in found["differences"] if one["kind"] != "hardware"] == []

    registry = second_clone.world.registry
    version = registry.models.version("shapes", 1)
    assert version.tags[TAG_RESULT] == "identical"
    kept = registry.artifacts.read_bytes(version.run_id, found["file"]).decode()
    assert Certificate.from_json(kept).words == found["words"]
    page = registry.artifacts.read_bytes(version.run_id, version.tags[TAG_PAGE]).decode()
    assert "Reproduction of shapes version 1: identical" in page
    assert git(second_clone.folder, "worktree", "list").count("\n") == 0, "the worktree is gone"


def test_the_packages_of_now_give_other_weights_and_the_first_that_differs_is_named(
    second_clone: SecondClone,
) -> None:
    answer = second_clone.reproduce("--present-versions")
    assert answer.status == 1, answer.errors
    assert answer.found["result"] == "differs"
    first = answer.found["first_difference"]
    assert first == {"kind": "versions", "name": "scaling", "before": "1.0", "after": "2.0"}, json.dumps(
        first
    )


def test_inputs_alone_are_compared_without_training_and_without_installing(second_clone: SecondClone) -> None:
    answer = second_clone.reproduce("--inputs-only")
    assert answer.found["compared"] == "inputs"
    assert [one["name"] for one in answer.found["differences"]] == ["scaling"]
    assert answer.found["reproduced_weights_sha256"] is None
    assert "epoch" not in answer.errors
