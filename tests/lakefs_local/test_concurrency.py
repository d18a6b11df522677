"""Sixteen clients at once: nothing acknowledged is lost, and who loses a race is told so."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lakefs_api import Repository

CLIENTS = 16
ROUNDS = 6
T = TypeVar("T")


def at_once(task: Callable[[int], T]) -> list[T]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(task, range(CLIENTS)))


def test_sixteen_committers_to_one_branch_lose_no_upload(repository: Repository) -> None:
    def work(client: int) -> list[str]:
        made = []
        for number in range(ROUNDS):
            repository.put("main", f"{client:02d}/{number}", b"%d %d" % (client, number))
            answer = repository.call("POST", "/branches/main/commits", data={"message": f"{client} {number}"})
            if answer.status == 201:
                made.append(answer.json["id"])
            else:
                # Another commit took this upload along.
                assert (answer.status, answer.message) == (400, "commit: no changes")
        return made

    made = [commit_id for ids in at_once(work) for commit_id in ids]
    expected = [f"{client:02d}/{number}" for client in range(CLIENTS) for number in range(ROUNDS)]
    assert repository.paths("main@") == sorted(expected)
    assert repository.diff("main") == {}
    log = [commit["id"] for commit in repository.log("main")]
    assert set(log[:-1]) == set(made) and len(log) == len(made) + 1
    # Every upload came in by exactly one commit.
    arrivals = [path for commit_id in made for path in repository.compare(f"{commit_id}~1", commit_id)]
    assert sorted(arrivals) == sorted(expected)


def test_sixteen_committers_to_sixteen_branches_do_not_disturb_each_other(repository: Repository) -> None:
    def work(client: int) -> None:
        repository.branch(f"client-{client}")
        for number in range(ROUNDS):
            repository.put(f"client-{client}", f"file-{number}", b"%d %d" % (client, number))
            repository.commit(f"client-{client}", f"{number}")

    at_once(work)
    for client in range(CLIENTS):
        branch = f"client-{client}"
        assert [commit["message"] for commit in repository.log(branch)][:ROUNDS] == [
            str(number) for number in reversed(range(ROUNDS))
        ]
        assert repository.get(branch, f"file-{ROUNDS - 1}").body == b"%d %d" % (client, ROUNDS - 1)


def test_sixteen_merges_into_one_branch_all_arrive(repository: Repository) -> None:
    def work(client: int) -> None:
        branch = f"source-{client}"
        repository.branch(branch)
        repository.put(branch, f"from/{client:02d}", b"%d" % client)
        repository.commit(branch)
        answer = repository.merge(branch, "main")
        assert answer.status == 200, answer

    at_once(work)
    assert repository.paths("main") == [f"from/{client:02d}" for client in range(CLIENTS)]


def test_of_sixteen_uploads_that_must_be_new_one_succeeds(repository: Repository) -> None:
    def work(client: int) -> int:
        return repository.call(
            "POST",
            "/branches/main/objects",
            {"path": "once"},
            body=b"%d" % client,
            headers={"If-None-Match": "*"},
        ).status

    assert sorted(at_once(work)) == [201] + [412] * (CLIENTS - 1)


def test_of_sixteen_branches_of_one_name_one_is_made(repository: Repository) -> None:
    def work(client: int) -> int:
        return repository.call("POST", "/branches", data={"name": "one", "source": "main"}).status

    assert sorted(at_once(work)) == [201] + [409] * (CLIENTS - 1)


def test_readers_see_each_commit_whole(repository: Repository) -> None:
    def work(client: int) -> None:
        for number in range(ROUNDS * 3):
            if client == 0:
                for name in ("left", "right"):
                    repository.put("main", name, b"%d" % number)
                repository.commit("main")
            else:
                found = {
                    item["path"]: item["checksum"] for item in repository.pages("/refs/main@/objects/ls")
                }
                assert len(set(found.values())) <= 1, found

    at_once(work)
