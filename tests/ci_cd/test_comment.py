"""A report on a pull or merge request: one comment, and never lost."""

from pathlib import Path

import pytest

from tests.ci_cd.forge import Forge
from visionops.forge import LONGEST, ForgeError, post_comment

LISTED = {
    "github": "repos/acme/vision/issues/12/comments",
    "gitlab": "projects/34/merge_requests/12/notes",
}


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "forge")


def say(forge: Forge, where: str, text: str, name: str = "report") -> str:
    report = forge.folder / "report.md"
    report.write_text(text)
    return post_comment(text, name, report, {**forge.environment(where), "PATH": str(forge.bin)})


@pytest.mark.parametrize("where", ["github", "gitlab"])
def test_posting_twice_leaves_one_comment_of_each_name(forge: Forge, where: str) -> None:
    assert say(forge, where, "first *report*").startswith("commented on acme/vision")
    assert say(forge, where, "another", "digits").startswith("commented")
    assert say(forge, where, "second report").startswith("updated the comment on acme/vision")
    assert forge.bodies() == [
        "Nice work!",
        "<!-- visionops:report -->\nsecond report",
        "<!-- visionops:digits -->\nanother",
    ]
    tool = {"github": "gh", "gitlab": "glab"}[where]
    changed = {"github": ["gh", "PATCH", "repos/acme/vision/issues/comments/8"]}.get(
        where, ["glab", "PUT", f"{LISTED['gitlab']}/8"]
    )
    assert forge.state()["calls"][:2] == [[tool, "GET", LISTED[where]], [tool, "POST", LISTED[where]]]
    assert forge.state()["calls"][-1] == changed


def test_of_two_that_were_posted_at_once_one_is_left(forge: Forge) -> None:
    say(forge, "github", "one")
    (mine,) = [body for body in forge.bodies() if "visionops" in body]
    again = {"id": 9, "body": mine, "user": {"login": "visionops[bot]"}}
    forge.write(comments=[*forge.state()["comments"], again])
    say(forge, "github", "two")
    assert forge.bodies() == ["Nice work!", "<!-- visionops:report -->\ntwo"]


@pytest.mark.parametrize("where", ["github", "gitlab"])
@pytest.mark.parametrize("who", ["mallory", "visionops", None])
def test_a_comment_of_somebody_else_with_our_mark_is_left_alone(
    forge: Forge, where: str, who: str | None
) -> None:
    key, name = {"github": ("user", "login"), "gitlab": ("author", "username")}[where]
    theirs = {"id": 8, "body": "<!-- visionops:report -->\nPASS", key: who and {name: who}}
    forge.write(comments=[theirs])
    say(forge, where, "first")
    say(forge, where, "second")
    assert forge.bodies() == [theirs["body"], "<!-- visionops:report -->\nsecond"]


def test_a_jobs_own_token_which_may_not_ask_who_it_is_is_known_by_its_bot(forge: Forge) -> None:
    written = {"id": 8, "body": "<!-- visionops:report -->\nold", "user": {"login": "github-actions[bot]"}}
    forge.write(comments=[written], me="")
    say(forge, "github", "new")
    assert forge.bodies() == ["<!-- visionops:report -->\nnew"]


@pytest.mark.parametrize("where", ["github", "gitlab"])
def test_a_forge_that_refuses_is_told_in_one_message_and_the_report_stays(forge: Forge, where: str) -> None:
    forge.write(refuses=True)
    with pytest.raises(
        ForgeError, match=r"could not comment on acme/vision.*HTTP 403.*report\.md"
    ) as refused:
        say(forge, where, "the report")
    assert len(str(refused.value).splitlines()) == 1
    assert {"github": "pull-requests: write", "gitlab": "GITLAB_TOKEN"}[where] in str(refused.value)
    assert (forge.folder / "report.md").read_text() == "the report"
    assert forge.bodies() == ["Nice work!"]


def test_cml_is_used_where_it_is(forge: Forge) -> None:
    assert "by cml" in say(forge.with_cml(), "gitlab", "a report")
    assert forge.state()["calls"] == [["cml", "comment", "update", str(forge.folder / "report.md"), True]]


def test_a_report_that_is_too_long_is_cut_and_says_so(forge: Forge) -> None:
    say(forge, "github", "a line of the report\n" * 5000)
    assert len(forge.bodies()[1]) < LONGEST + 200 and "Cut here" in forge.bodies()[1]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "run it in a job of GitHub Actions or GitLab CI"),
        ({"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "a/b"}, "runs for no pull request"),
        ({"GITLAB_CI": "true", "CI_PROJECT_ID": "1"}, "runs for no merge request"),
        (
            {"GITLAB_CI": "true", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "2", "PATH": "/nowhere"},
            "neither cml nor glab is installed",
        ),
    ],
)
def test_where_there_is_nothing_to_comment_on_it_says_so(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ForgeError, match=said):
        post_comment("text", "report", tmp_path / "report.md", environment)
