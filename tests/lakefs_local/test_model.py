"""A random walk through the API beside a model of dictionaries: after each step both tell the same story."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lakefs_api import Api, Repository

from lakefs_local.discovery import serving

Tree = dict[str, str]
PATHS = st.sampled_from(["a", "a/1", "a/2", "a/b/1", "b", "b/1", "b-1", "ü/1", "z z"])
CONTENTS = st.sampled_from(["1", "2", "3"])
PICK = st.integers(0, 2**16)


@dataclass(frozen=True)
class Commit:
    """A commit of the model: its parents' ids, its content, how far it is from the first."""

    parents: tuple[str, ...]
    tree: Tree
    generation: int


@dataclass
class Branch:
    """A branch of the model; a staged None is a deletion."""

    head: str
    staged: dict[str, str | None] = field(default_factory=dict)


def overlaid(tree: Tree, staged: dict[str, str | None]) -> Tree:
    merged: dict[str, str | None] = {**tree, **staged}
    return {path: content for path, content in merged.items() if content is not None}


def changes(left: Tree, right: Tree) -> dict[str, str]:
    kinds = {}
    for path in left.keys() | right.keys():
        if left.get(path) != right.get(path):
            kinds[path] = "added" if path not in left else "removed" if path not in right else "changed"
    return kinds


def three_way(base: Tree, ours: Tree, theirs: Tree) -> tuple[Tree, set[str]]:
    """What merging gives, the source winning; and the paths where both sides changed differently."""
    merged, conflicts = dict(ours), set()
    for path in base.keys() | theirs.keys():
        was, now, here = base.get(path), theirs.get(path), ours.get(path)
        if was == now or here == now:
            continue
        if here != was:
            conflicts.add(path)
        if now is None:
            merged.pop(path, None)
        else:
            merged[path] = now
    return merged, conflicts


class LakeFS(RuleBasedStateMachine):
    """The rules; `api` is the server under test."""

    api: ClassVar[Api]
    number: ClassVar[int] = 0

    @initialize()
    def start(self) -> None:
        type(self).number += 1
        self.repository = Repository(self.api, f"model-{self.number}")
        first = self.repository.head("main")
        self.commits = {first: Commit((), {}, 1)}
        self.branches = {"main": Branch(first)}

    def pick(self, number: int) -> str:
        return sorted(self.branches)[number % len(self.branches)]

    def tree(self, branch: str) -> Tree:
        return self.commits[self.branches[branch].head].tree

    def is_clean(self, branch: str) -> bool:
        staged, tree = self.branches[branch].staged, self.tree(branch)
        return all(content is None and path not in tree for path, content in staged.items())

    def advance(self, branch: str, commit_id: str, tree: Tree, *others: str) -> None:
        parents = (self.branches[branch].head, *others)
        generation = 1 + max(self.commits[parent].generation for parent in parents)
        self.commits[commit_id] = Commit(parents, tree, generation)
        self.branches[branch].head = commit_id
        told = self.repository.call("GET", f"/commits/{commit_id}").json
        assert (tuple(told["parents"]), told["generation"]) == (parents, generation)

    def ancestors(self, commit_id: str) -> set[str]:
        found, pending = set(), [commit_id]
        while pending:
            at = pending.pop()
            if at not in found:
                found.add(at)
                pending += self.commits[at].parents
        return found

    def base(self, left: str, right: str) -> Commit:
        """The server's choice of merge base, checked to be one of the nearest common ancestors."""
        told = self.repository.call("GET", f"/refs/{left}/merge/{right}").json["base_commit_id"]
        common = self.ancestors(self.branches[left].head) & self.ancestors(self.branches[right].head)
        assert told in common
        assert self.commits[told].generation == max(self.commits[at].generation for at in common)
        return self.commits[told]

    @precondition(lambda self: len(self.branches) < 4)
    @rule(source=PICK)
    def create_branch(self, source: int) -> None:
        name, origin = f"branch-{len(self.branches)}", self.pick(source)
        self.repository.branch(name, origin)
        self.branches[name] = Branch(self.branches[origin].head)

    @rule(branch=PICK, path=PATHS, content=CONTENTS)
    def put(self, branch: int, path: str, content: str) -> None:
        name = self.pick(branch)
        self.repository.put(name, path, content.encode())
        self.branches[name].staged[path] = content

    @rule(branch=PICK, path=PATHS)
    def delete(self, branch: int, path: str) -> None:
        name = self.pick(branch)
        self.repository.delete(name, path)
        self.branches[name].staged[path] = None

    @rule(branch=PICK)
    def commit(self, branch: int) -> None:
        name = self.pick(branch)
        new = overlaid(self.tree(name), self.branches[name].staged)
        answer = self.repository.call("POST", f"/branches/{name}/commits", data={"message": "m"})
        if new == self.tree(name):
            assert (answer.status, answer.message) == (400, "commit: no changes")
            return
        assert answer.status == 201, answer
        self.advance(name, answer.json["id"], new)
        self.branches[name].staged = {}

    @rule(source=PICK, destination=PICK, strategy=st.sampled_from(["", "source-wins", "dest-wins"]))
    def merge(self, source: int, destination: int, strategy: str) -> None:
        theirs, ours = self.pick(source), self.pick(destination)
        base = self.base(theirs, ours)
        answer = self.repository.merge(theirs, ours, strategy=strategy)
        merged, conflicts = three_way(base.tree, self.tree(ours), self.tree(theirs))
        if not self.is_clean(ours):
            assert (answer.status, answer.message) == (400, "uncommitted changes (dirty branch)")
        elif base.tree == self.tree(theirs):
            # An emptied tree and the first commit's are two different nothings to lakeFS.
            assert answer.status == 400 or not base.tree
            if answer.status == 200:
                self.advance(ours, answer.json["reference"], self.tree(ours), self.branches[theirs].head)
                self.branches[ours].staged = {}
        elif conflicts and not strategy:
            assert (answer.status, answer.json) == (409, {"reference": ""})
        else:
            assert answer.status == 200, answer
            if strategy == "dest-wins":
                mine = {path: self.tree(ours)[path] for path in conflicts if path in self.tree(ours)}
                merged = {path: content for path, content in merged.items() if path not in conflicts} | mine
            self.advance(ours, answer.json["reference"], merged, self.branches[theirs].head)
            self.branches[ours].staged = {}

    @rule(branch=PICK, number=PICK)
    def revert(self, branch: int, number: int) -> None:
        name = self.pick(branch)
        undone = sorted(self.commits)[number % len(self.commits)]
        if not self.commits[undone].parents:
            return
        parent = self.commits[self.commits[undone].parents[0]].tree
        body = {"ref": undone, "parent_number": 1 if len(self.commits[undone].parents) > 1 else 0}
        answer = self.repository.call("POST", f"/branches/{name}/revert", data=body)
        self.judge(name, answer, self.commits[undone].tree, parent, unchanged_is_refused=True)

    @rule(branch=PICK, number=PICK)
    def cherry_pick(self, branch: int, number: int) -> None:
        name = self.pick(branch)
        picked = sorted(self.commits)[number % len(self.commits)]
        if not self.commits[picked].parents:
            return
        parent = self.commits[self.commits[picked].parents[0]].tree
        body: dict[str, Any] = {"ref": picked}
        if len(self.commits[picked].parents) > 1:
            body["parent_number"] = 1
        answer = self.repository.call("POST", f"/branches/{name}/cherry-pick", data=body)
        self.judge(name, answer, parent, self.commits[picked].tree, unchanged_is_refused=False)

    def judge(self, name: str, answer: Any, base: Tree, theirs: Tree, *, unchanged_is_refused: bool) -> None:
        merged, conflicts = three_way(base, self.tree(name), theirs)
        if not self.is_clean(name):
            assert (answer.status, answer.message) == (400, "uncommitted changes (dirty branch)")
        elif conflicts:
            assert answer.status == 409
        elif merged == self.tree(name) and unchanged_is_refused and answer.status == 400:
            assert answer.message == "update branch: no changes"
        else:
            assert answer.status in (201, 204), answer
            self.advance(name, self.repository.head(name), merged)
            self.branches[name].staged = {}

    @rule(branch=PICK, path=PATHS, kind=st.sampled_from(["reset", "object", "common_prefix"]))
    def reset(self, branch: int, path: str, kind: str) -> None:
        name = self.pick(branch)
        answer = self.repository.call("PUT", f"/branches/{name}", data={"type": kind, "path": path})
        assert answer.status == 204, answer
        for staged in list(self.branches[name].staged):
            if kind == "reset" or staged == path or (kind == "common_prefix" and staged.startswith(path)):
                del self.branches[name].staged[staged]

    @rule(branch=PICK, number=PICK)
    def hard_reset(self, branch: int, number: int) -> None:
        name, target = self.pick(branch), sorted(self.commits)[number % len(self.commits)]
        answer = self.repository.call("PUT", f"/branches/{name}/hard_reset", {"ref": target})
        if self.is_clean(name):
            assert answer.status == 204, answer
            self.branches[name] = Branch(target)
        else:
            assert answer.status == 400, answer

    @invariant()
    def branches_show_and_list_what_the_model_holds(self) -> None:
        for name, branch in self.branches.items():
            assert self.repository.head(name) == branch.head
            shown = overlaid(self.tree(name), branch.staged)
            assert self.repository.paths(name, amount=3) == sorted(shown, key=str.encode)
            assert self.repository.paths(f"{name}@") == sorted(self.tree(name), key=str.encode)
            assert self.repository.diff(name) == changes(self.tree(name), shown)

    @rule(branch=PICK, path=PATHS)
    def read(self, branch: int, path: str) -> None:
        name = self.pick(branch)
        content = overlaid(self.tree(name), self.branches[name].staged).get(path)
        answer = self.repository.get(name, path)
        assert (answer.status, answer.body.decode()) == (200, content) if content else answer.status == 404

    @rule(left=PICK, right=PICK)
    def compare(self, left: int, right: int) -> None:
        a, b = self.pick(left), self.pick(right)
        assert self.repository.compare(a, b, type="two_dot") == changes(self.tree(a), self.tree(b))
        merged, conflicts = three_way(self.base(b, a).tree, self.tree(a), self.tree(b))
        expected = changes(self.tree(a), merged) | dict.fromkeys(conflicts, "conflict")
        assert self.repository.compare(a, b, amount=2) == expected

    @rule(branch=PICK, prefix=st.sampled_from(["", "a", "a/", "b"]))
    def list_folders(self, branch: int, prefix: str) -> None:
        name = self.pick(branch)
        shown = overlaid(self.tree(name), self.branches[name].staged)
        expected = set()
        for path in shown:
            if path.startswith(prefix):
                head, slash, _ = path.removeprefix(prefix).partition("/")
                expected.add(prefix + head + slash)
        found = self.repository.paths(name, prefix=prefix, delimiter="/", amount=2)
        assert found == sorted(expected, key=str.encode)

    @rule(branch=PICK)
    def log(self, branch: int) -> None:
        head = self.branches[self.pick(branch)].head
        logged = [commit["id"] for commit in self.repository.log(head, amount=3)]
        assert set(logged) == self.ancestors(head)
        assert len(logged) == len(set(logged))


def test_a_random_walk_agrees_with_the_model(tmp_path: Path, count: Any) -> None:
    with serving(tmp_path / "data") as server:
        LakeFS.api = Api(server)
        run_state_machine_as_test(
            LakeFS,
            settings=settings(
                max_examples=count(8, 300),
                stateful_step_count=count(25, 50),
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


pytestmark = pytest.mark.timeout(1800)
