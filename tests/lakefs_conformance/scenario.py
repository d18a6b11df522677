"""The scenario: every rule of the lakeFS API that this project relies on, as calls whose answers are compared."""

# One call a line reads best here, and keeps the file as it was when the answers were recorded.
# ruff: noqa: E501, E741, F841, PTH103, PTH118, PTH123
# fmt: off
import json
import os

MULTI = "----conformance"


def multipart(content, filename="f", content_type="application/octet-stream"):
    head = f'--{MULTI}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\nContent-Type: {content_type}\r\n\r\n'
    return head.encode() + content + f"\r\n--{MULTI}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={MULTI}"}


def scenario(s):
    R = s.vars["repo"]
    repo = f"/repositories/{R}"
    B = f"{repo}/branches"

    def put(name, branch, path, content=b"x", headers=None, **kw):
        h = {"Content-Type": "application/octet-stream", **(headers or {})}
        return s(name, "POST", f"{B}/{branch}/objects", {"path": path, **kw.pop("query", {})}, body=content, headers=h, **kw)

    def commit(name, branch, message="m", metadata=None, save=None, **kw):
        body = {"message": message, **kw}
        if metadata is not None:
            body["metadata"] = metadata
        return s(name, "POST", f"{B}/{branch}/commits", json_body=body, save={save: "id"} if save else None)

    service(s)
    repositories(s, R)
    branches(s, B)
    objects(s, repo, B, put)
    listing(s, repo, B, put)
    commits(s, repo, B, put, commit)
    references(s, repo, put, commit)
    diffs(s, repo, B, put)
    merging(s, repo, B, put, commit)
    undoing(s, repo, B, put, commit)
    tags(s, repo)
    protection(s, repo, B, put, commit)
    staging(s, repo, B)
    importing(s, repo, B, put)
    hooks(s, repo, B, put, commit)
    ending(s, repo)


def service(s):
    s("service/health", "GET", "/healthcheck", auth=False)
    s("service/config", "GET", "/config", keep_body=False)
    s("service/no credentials", "GET", "/repositories", auth=False)
    s("service/wrong secret", "GET", "/repositories", auth=f"{s.key}:wrong")
    s("service/unknown key", "GET", "/repositories", auth="nobody:wrong")
    s("service/unknown route", "GET", "/nothing/here")
    s("service/method not allowed", "PATCH", "/repositories")
    s("service/user", "GET", "/user", keep_body=False)


def repositories(s, R):
    ns = s.namespace
    s("repo/create", "POST", "/repositories", json_body={"name": R, "storage_namespace": ns, "default_branch": "main"})
    s("repo/create twice", "POST", "/repositories", json_body={"name": R, "storage_namespace": ns + "-b"})
    s("repo/namespace in use", "POST", "/repositories", json_body={"name": R + "-c", "storage_namespace": ns})
    s("repo/bad name", "POST", "/repositories", json_body={"name": "Bad Name!", "storage_namespace": ns + "-d"})
    s("repo/no namespace", "POST", "/repositories", json_body={"name": R + "-e"})
    s("repo/bad namespace", "POST", "/repositories", json_body={"name": R + "-f", "storage_namespace": "nowhere"})
    s("repo/bad json", "POST", "/repositories", body=b"{", headers={"Content-Type": "application/json"})
    s("repo/empty body", "POST", "/repositories", body=b"", headers={"Content-Type": "application/json"})
    s("repo/get", "GET", f"/repositories/{R}")
    s("repo/get missing", "GET", "/repositories/no-such-repo")
    s("repo/list", "GET", "/repositories", {"prefix": R})
    s("repo/metadata", "GET", f"/repositories/{R}/metadata")
    s("repo/read only", "POST", "/repositories", json_body={"name": R + "-ro", "storage_namespace": ns + "-ro", "read_only": True})
    s("repo/read only upload", "POST", f"/repositories/{R}-ro/branches/main/objects", {"path": "a"}, body=b"x", headers={"Content-Type": "application/octet-stream"})
    s("repo/read only delete", "DELETE", f"/repositories/{R}-ro")
    s("repo/read only delete forced", "DELETE", f"/repositories/{R}-ro", {"force": "true"})
    s("repo/delete missing", "DELETE", "/repositories/no-such-repo")
    s("repo/first log", "GET", f"/repositories/{R}/refs/main/commits", save={"c0": "results.0.id"})


def branches(s, B):
    s("branch/create", "POST", B, json_body={"name": "feature", "source": "main"})
    s("branch/create twice", "POST", B, json_body={"name": "feature", "source": "main"})
    s("branch/create from missing", "POST", B, json_body={"name": "feature2", "source": "no-such"})
    s("branch/bad name", "POST", B, json_body={"name": "bad name", "source": "main"})
    s("branch/name with slash", "POST", B, json_body={"name": "data/week-1", "source": "main"})
    s("branch/second", "POST", B, json_body={"name": "data-week-1", "source": "main"})
    s("branch/no source", "POST", B, json_body={"name": "nosource"})
    s("branch/hidden", "POST", B, json_body={"name": "ghost", "source": "main", "hidden": True})
    s("branch/get", "GET", f"{B}/feature")
    s("branch/get missing", "GET", f"{B}/no-such")
    s("branch/list", "GET", B)
    s("branch/list hidden", "GET", B, {"show_hidden": "true"})
    s("branch/list prefix", "GET", B, {"prefix": "f"})
    s("branch/list page 1", "GET", B, {"amount": 1})
    s("branch/list page 2", "GET", B, {"amount": 1, "after": "data-week-1"})
    s("branch/list amount 0", "GET", B, {"amount": 0})
    s("branch/list amount -2", "GET", B, {"amount": -2})
    s("branch/list amount 1001", "GET", B, {"amount": 1001})
    s("branch/list amount word", "GET", B, {"amount": "many"})
    s("branch/delete", "DELETE", f"{B}/ghost")
    s("branch/delete default", "DELETE", f"{B}/main")
    s("branch/delete missing", "DELETE", f"{B}/no-such")


def objects(s, repo, B, put):
    get = f"{repo}/refs/feature/objects"
    put("object/upload", "feature", "a/one.txt", b"one")
    put("object/upload same again", "feature", "a/one.txt", b"one")
    put("object/upload with metadata", "feature", "a/meta.txt", b"with metadata", {"x-lakefs-meta-Camera": "Left", "x-lakefs-meta-weird_key": "a b"})
    put("object/upload content type", "feature", "a/page.html", b"<p>", {"Content-Type": "text/html"})
    body, h = multipart(b"multi part")
    s("object/upload multipart", "POST", f"{B}/feature/objects", {"path": "a/multi.bin"}, body=body, headers=h)
    body, h = multipart(b"typed", content_type="image/png")
    s("object/upload multipart typed", "POST", f"{B}/feature/objects", {"path": "a/multi.png"}, body=body, headers=h)
    put("object/upload empty", "feature", "a/empty", b"")
    put("object/upload odd path", "feature", "a/sp ace+plus%25é/日本.png", b"odd")
    put("object/upload leading slash", "feature", "/lead", b"lead")
    put("object/upload trailing slash", "feature", "dir/", b"dir")
    put("object/upload dots", "feature", "../up/./x", b"dots")
    put("object/upload empty path", "feature", "", b"x")
    put("object/upload path 1024", "feature", "p" * 1024, b"x")
    put("object/upload path 1025", "feature", "p" * 1025, b"x")
    s("object/upload no path", "POST", f"{B}/feature/objects", body=b"x", headers={"Content-Type": "application/octet-stream"})
    put("object/upload missing branch", "no-such", "a", b"x")
    s("object/upload missing repo", "POST", "/repositories/no-such/branches/main/objects", {"path": "a"}, body=b"x", headers={"Content-Type": "application/octet-stream"})
    put("object/if none match new", "feature", "a/fresh", b"1", {"If-None-Match": "*"})
    put("object/if none match exists", "feature", "a/fresh", b"2", {"If-None-Match": "*"})
    put("object/if none match etag", "feature", "a/fresh", b"2", {"If-None-Match": "\"abc\""})
    put("object/if match", "feature", "a/fresh", b"2", {"If-Match": "\"abc\""})
    for name, path in [("", "a/one.txt"), (" meta", "a/meta.txt"), (" html", "a/page.html"), (" multipart", "a/multi.bin"), (" empty", "a/empty"), (" odd path", "a/sp ace+plus%25é/日本.png"), (" leading slash", "/lead"), (" trailing slash", "dir/"), (" missing", "nothing")]:
        s(f"object/get{name}", "GET", get, {"path": path})
        s(f"object/stat{name}", "GET", get + "/stat", {"path": path})
    s("object/stat no metadata", "GET", get + "/stat", {"path": "a/meta.txt", "user_metadata": "false"})
    s("object/stat presign", "GET", get + "/stat", {"path": "a/one.txt", "presign": "true"})
    s("object/get presign", "GET", get, {"path": "a/one.txt", "presign": "true"})
    s("object/get no path", "GET", get)
    s("object/get missing ref", "GET", f"{repo}/refs/no-such/objects", {"path": "a"})
    s("object/get if none match", "GET", get, {"path": "a/one.txt"}, headers={"If-None-Match": "\"f97c5d29941bfb1b2fdab0874906ab82\""})
    s("object/head", "HEAD", get, {"path": "a/one.txt"})
    s("object/head missing", "HEAD", get, {"path": "nothing"})
    for r in ["bytes=0-1", "bytes=1-", "bytes=-2", "bytes=0-99", "bytes=3-", "bytes=9-12", "bytes=2-1", "bytes=0-0,2-2", "lines=1-2", "bytes=a-b"]:
        s(f"object/range {r}", "GET", get, {"path": "a/one.txt"}, headers={"Range": r})
    s("object/range of empty", "GET", get, {"path": "a/empty"}, headers={"Range": "bytes=0-1"})
    s("object/head range", "HEAD", get, {"path": "a/one.txt"}, headers={"Range": "bytes=0-1"})
    s("object/copy", "POST", f"{B}/feature/objects/copy", {"dest_path": "a/copy.txt"}, json_body={"src_path": "a/one.txt"})
    s("object/copy missing", "POST", f"{B}/feature/objects/copy", {"dest_path": "a/copy2.txt"}, json_body={"src_path": "nothing"})
    s("object/copy from ref", "POST", f"{B}/data-week-1/objects/copy", {"dest_path": "a/copy.txt"}, json_body={"src_path": "a/one.txt", "src_ref": "feature"})
    s("object/delete", "DELETE", f"{B}/feature/objects", {"path": "a/copy.txt"})
    s("object/delete again", "DELETE", f"{B}/feature/objects", {"path": "a/copy.txt"})
    s("object/delete missing branch", "DELETE", f"{B}/no-such/objects", {"path": "a"})
    s("object/bulk delete", "POST", f"{B}/feature/objects/delete", json_body={"paths": ["a/fresh", "never/was"]})
    s("object/bulk delete 1001", "POST", f"{B}/feature/objects/delete", json_body={"paths": [f"k{i}" for i in range(1001)]})
    s("object/bulk delete none", "POST", f"{B}/feature/objects/delete", json_body={"paths": []})
    s("object/get deleted", "GET", get, {"path": "a/fresh"})
    s("object/get at committed head", "GET", f"{repo}/refs/feature@/objects", {"path": "a/one.txt"})
    s("object/user metadata", "PUT", f"{B}/feature/objects/stat/user_metadata", {"path": "a/one.txt"}, json_body={"set": {"Seen": "yes"}})
    s("object/stat after user metadata", "GET", get + "/stat", {"path": "a/one.txt"})


def listing(s, repo, B, put):
    s("list/branch", "POST", B, json_body={"name": "list", "source": "main"})
    for p in ["b/1", "b/2", "b/c/1", "b/c/2", "b-x", "b.x", "c/1", "ü/1", "a b/1"]:
        put(f"list/put {p}", "list", p, b"x", keep_body=False)
    ls = f"{repo}/refs/list/objects/ls"
    for name, q in {"all": {}, "prefix": {"prefix": "b/"}, "prefix no slash": {"prefix": "b"}, "delimiter": {"delimiter": "/"}, "prefix and delimiter": {"prefix": "b/", "delimiter": "/"},
                    "amount 2": {"amount": 2}, "after": {"after": "b/1"}, "delimiter amount 1": {"delimiter": "/", "amount": 1}, "delimiter after prefix": {"delimiter": "/", "after": "b/"},
                    "after common prefix in prefix": {"prefix": "b/", "delimiter": "/", "after": "b/2"}, "nothing": {"prefix": "zzz"}, "amount 0": {"amount": 0}, "amount 1001": {"amount": 1001}, "no metadata": {"user_metadata": "false", "amount": 1}, "other delimiter": {"delimiter": "-"}}.items():
        s(f"list/{name}", "GET", ls, q)
    s("list/missing ref", "GET", f"{repo}/refs/no-such/objects/ls")
    s("list/committed head is empty", "GET", f"{repo}/refs/list@/objects/ls")


def commits(s, repo, B, put, commit):
    commit("commit/first", "feature", "first", {"run": "1", "::lakefs::Dagster::url[url:ui]": "http://x"}, save="c1")
    commit("commit/no changes", "feature", "again")
    commit("commit/allow empty", "feature", "empty", allow_empty=True, save="c2")
    put("commit/put", "feature", "z/1", b"z")
    s("commit/empty message", "POST", f"{B}/feature/commits", json_body={"message": ""})
    s("commit/no message", "POST", f"{B}/feature/commits", json_body={})
    s("commit/missing branch", "POST", f"{B}/no-such/commits", json_body={"message": "m"})
    put("commit/put b", "feature", "z/2", b"z")
    commit("commit/with date", "feature", "dated", date=1700000000, save="c3")
    s("commit/get", "GET", f"{repo}/commits/{s.vars['c1']}")
    s("commit/get missing", "GET", f"{repo}/commits/{'0' * 64}")
    s("commit/get by prefix", "GET", f"{repo}/commits/{s.vars['c1'][:12]}")
    log = f"{repo}/refs/feature/commits"
    for name, q in {"all": {}, "amount 1": {"amount": 1}, "limit": {"amount": 2, "limit": "true"}, "after": {"after": s.vars["c2"]}, "first parent": {"first_parent": "true"}, "objects": {"objects": "a/one.txt"}, "prefixes": {"prefixes": "z/"}, "objects none": {"objects": "never"}, "stop at": {"stop_at": s.vars["c1"]}, "since": {"since": "2020-01-01T00:00:00Z"}}.items():
        s(f"log/{name}", "GET", log, q)
    s("log/missing ref", "GET", f"{repo}/refs/no-such/commits")
    s("unrecorded/log first parent after", "GET", log, {"first_parent": "true", "after": s.vars["c2"], "amount": 1})
    s("branch/get after commits", "GET", f"{B}/feature")


def references(s, repo, put, commit):
    c1, c2 = s.vars["c1"], s.vars["c2"]
    for ref in ["feature", "feature@", "feature$", "feature~1", "feature~2", "feature~99", "feature^1", "feature^2", "feature^0", "feature~1~1", "feature^1^1", c1, c1[:8], c1[:8] + "~1", c1 + "@", "main~0", "no-such~1", "feature~x", "feature@~1", "~1", "feature^^", c1[:1] + "zz"]:
        label = ref.replace(c1, "<c1>").replace(c1[:8], "<c1:8>").replace(c1[:1] + "zz", "<x>zz")
        s(f"ref/{label}", "GET", f"{repo}/refs/{ref}/commits", {"amount": 1})
        s(f"ref/{label} ls", "GET", f"{repo}/refs/{ref}/objects/ls", {"amount": 1})


def diffs(s, repo, B, put):
    put("diff/put changed", "feature", "a/one.txt", b"one changed")
    put("diff/put added", "feature", "d/new", b"new")
    s("diff/delete", "DELETE", f"{B}/feature/objects", {"path": "a/empty"})
    s("diff/put then delete", "DELETE", f"{B}/feature/objects", {"path": "d/never"})
    for name, q in {"all": {}, "prefix": {"prefix": "a/"}, "delimiter": {"delimiter": "/"}, "amount 1": {"amount": 1}, "after": {"after": "a/empty"}}.items():
        s(f"diff/uncommitted {name}", "GET", f"{B}/feature/diff", q)
    s("diff/missing branch", "GET", f"{B}/no-such/diff")
    for name, (a, b, q) in {"three dot": ("main", "feature", {}), "two dot": ("main", "feature", {"type": "two_dot"}), "two dot back": ("feature", "main", {"type": "two_dot"}), "three dot back": ("feature", "main", {}), "staging": ("feature", "feature$", {"type": "two_dot"}), "same": ("feature", "feature", {}), "prefix": ("main", "feature", {"prefix": "z/"}), "delimiter": ("main", "feature", {"delimiter": "/"}), "amount": ("main", "feature", {"amount": 2}), "after": ("main", "feature", {"amount": 2, "after": "a/one.txt"}), "bad type": ("main", "feature", {"type": "four_dot"}), "missing": ("main", "no-such", {}), "commits": (s.vars["c1"], s.vars["c3"], {"type": "two_dot"})}.items():
        s(f"diff/refs {name}", "GET", f"{repo}/refs/{a}/diff/{b}", q)
    for name, q in {"first": {"prefix": "a/", "amount": 1}, "next": {"prefix": "a/", "amount": 1, "after": "a/empty"}}.items():
        s(f"unrecorded/two dot under a prefix, {name}", "GET", f"{repo}/refs/main/diff/feature", {"type": "two_dot", **q})


def merging(s, repo, B, put, commit):
    m = f"{repo}/refs"
    s("merge/dirty source", "POST", f"{m}/feature/merge/main", json_body={})
    s("merge/log after dirty source", "GET", f"{repo}/refs/main/commits")
    put("merge/dirty main", "main", "dirty", b"d")
    put("merge/put", "feature", "m/1", b"1")
    commit("merge/commit", "feature", "for merge", save="m1")
    s("merge/dirty destination", "POST", f"{m}/feature/merge/main", json_body={})
    s("merge/reset main", "PUT", f"{B}/main", json_body={"type": "reset"})
    s("merge/base", "GET", f"{m}/feature/merge/main")
    s("merge/plain", "POST", f"{m}/feature/merge/main", json_body={"message": "merged", "metadata": {"who": "me"}}, save={"mg1": "reference"})
    s("merge/nothing", "POST", f"{m}/feature/merge/main", json_body={})
    s("merge/log", "GET", f"{repo}/refs/main/commits", {"amount": 3})
    s("merge/missing source", "POST", f"{m}/no-such/merge/main", json_body={})
    s("merge/missing destination", "POST", f"{m}/feature/merge/no-such", json_body={})
    s("merge/bad strategy", "POST", f"{m}/feature/merge/main", json_body={"strategy": "mine"})
    for b in ["left", "right"]:
        s(f"merge/branch {b}", "POST", B, json_body={"name": b, "source": "main"})
    put("merge/left", "left", "same", b"left")
    commit("merge/left commit", "left", "left")
    put("merge/right", "right", "same", b"right")
    put("merge/right other", "right", "other", b"right")
    commit("merge/right commit", "right", "right")
    s("merge/first of two", "POST", f"{m}/left/merge/main", json_body={"message": "left in"})
    s("merge/conflict", "POST", f"{m}/right/merge/main", json_body={"message": "right in"})
    s("merge/conflict diff", "GET", f"{m}/main/diff/right")
    s("merge/dest wins", "POST", f"{m}/right/merge/main", json_body={"message": "dest", "strategy": "dest-wins"})
    s("merge/dest wins content", "GET", f"{m}/main/objects", {"path": "same"})
    s("merge/dest wins commit", "GET", f"{m}/main/commits", {"amount": 1})
    put("merge/right again", "right", "same", b"right again")
    commit("merge/right again commit", "right", "right 2")
    put("merge/main change", "main", "same", b"main again")
    commit("merge/main change commit", "main", "main 2")
    s("merge/source wins", "POST", f"{m}/right/merge/main", json_body={"strategy": "source-wins"})
    s("merge/source wins content", "GET", f"{m}/main/objects", {"path": "same"})
    s("merge/source wins commit", "GET", f"{m}/main/commits", {"amount": 1})
    put("merge/left squash", "left", "sq/1", b"1")
    commit("merge/left squash commit", "left", "sq1")
    put("merge/left squash 2", "left", "sq/2", b"2")
    commit("merge/left squash commit 2", "left", "sq2")
    s("merge/squash", "POST", f"{m}/left/merge/main", json_body={"message": "squashed", "squash_merge": True})
    s("merge/squash commit", "GET", f"{m}/main/commits", {"amount": 1})
    s("merge/delete and change branch", "POST", B, json_body={"name": "gone", "source": "main"})
    s("merge/delete on gone", "DELETE", f"{B}/gone/objects", {"path": "same"})
    commit("merge/delete commit", "gone", "deleted")
    put("merge/change on main", "main", "same", b"changed on main")
    commit("merge/change commit", "main", "changed")
    s("merge/delete against change", "POST", f"{m}/gone/merge/main", json_body={})
    s("merge/from commit id", "POST", f"{m}/{s.vars['c1']}/merge/main", json_body={})
    s("merge/allow empty", "POST", f"{m}/feature/merge/main", json_body={"allow_empty": True})


def undoing(s, repo, B, put, commit):
    s("undo/branch", "POST", B, json_body={"name": "undo", "source": "main"})
    put("undo/put", "undo", "u/1", b"1")
    commit("undo/commit", "undo", "u1", save="u1")
    put("undo/put 2", "undo", "u/2", b"2")
    commit("undo/commit 2", "undo", "u2", save="u2")
    s("undo/revert", "POST", f"{B}/undo/revert", json_body={"ref": s.vars["u1"], "parent_number": 0})
    s("undo/revert log", "GET", f"{repo}/refs/undo/commits", {"amount": 1})
    s("undo/revert list", "GET", f"{repo}/refs/undo/objects/ls", {"prefix": "u/"})
    s("undo/revert again", "POST", f"{B}/undo/revert", json_body={"ref": s.vars["u1"], "parent_number": 0})
    s("undo/revert a merge", "POST", f"{B}/main/revert", json_body={"ref": s.vars["mg1"], "parent_number": 0})
    s("undo/revert missing", "POST", f"{B}/undo/revert", json_body={"ref": "no-such", "parent_number": 0})
    s("undo/branch pick", "POST", B, json_body={"name": "pick", "source": s.vars["u1"]})
    s("undo/cherry-pick", "POST", f"{B}/pick/cherry-pick", json_body={"ref": s.vars["u2"]})
    s("undo/cherry-pick again", "POST", f"{B}/pick/cherry-pick", json_body={"ref": s.vars["u2"]})
    s("undo/cherry-pick a merge", "POST", f"{B}/pick/cherry-pick", json_body={"ref": s.vars["mg1"]})
    s("undo/cherry-pick missing", "POST", f"{B}/pick/cherry-pick", json_body={"ref": "no-such"})
    for p in ["r/1", "r/2", "r/sub/1"]:
        put(f"undo/reset put {p}", "undo", p, b"x", keep_body=False)
    s("undo/reset object", "PUT", f"{B}/undo", json_body={"type": "object", "path": "r/1"})
    s("undo/reset prefix", "PUT", f"{B}/undo", json_body={"type": "common_prefix", "path": "r/sub/"})
    s("undo/reset left", "GET", f"{B}/undo/diff")
    s("undo/reset all", "PUT", f"{B}/undo", json_body={"type": "reset"})
    s("undo/reset bad type", "PUT", f"{B}/undo", json_body={"type": "nothing"})
    s("undo/reset clean", "GET", f"{B}/undo/diff")
    s("undo/reset missing", "PUT", f"{B}/no-such", json_body={"type": "reset"})
    s("undo/hard reset", "PUT", f"{B}/undo/hard_reset", {"ref": s.vars["u1"]})
    s("undo/hard reset head", "GET", f"{B}/undo")


def tags(s, repo):
    T = f"{repo}/tags"
    s("tag/create", "POST", T, json_body={"id": "v1", "ref": "main"})
    s("tag/create twice", "POST", T, json_body={"id": "v1", "ref": "main"})
    s("tag/create missing ref", "POST", T, json_body={"id": "v2", "ref": "no-such"})
    s("tag/bad id", "POST", T, json_body={"id": "bad id", "ref": "main"})
    s("tag/at commit", "POST", T, json_body={"id": "v0", "ref": s.vars["c1"]})
    s("tag/get", "GET", f"{T}/v0")
    s("tag/get missing", "GET", f"{T}/no-such")
    s("tag/list", "GET", T)
    s("tag/list page", "GET", T, {"amount": 1})
    s("tag/as ref", "GET", f"{repo}/refs/v0/objects/ls", {"amount": 1})
    s("tag/branch of same name", "POST", f"{repo}/branches", json_body={"name": "v1", "source": "main"})
    s("tag/upload to tag", "POST", f"{repo}/branches/v0/objects", {"path": "a"}, body=b"x", headers={"Content-Type": "application/octet-stream"})
    s("tag/delete", "DELETE", f"{T}/v0")
    s("tag/delete missing", "DELETE", f"{T}/v0")


def protection(s, repo, B, put, commit):
    P = f"{repo}/settings/branch_protection"
    s("protect/get", "GET", P)
    s("protect/set", "PUT", P, json_body=[{"pattern": "main"}, {"pattern": "release-*"}])
    s.settle()
    s("protect/get set", "GET", P)
    put("protect/upload", "main", "p", b"x")
    s("protect/delete object", "DELETE", f"{B}/main/objects", {"path": "same"})
    commit("protect/commit", "main", "m")
    s("protect/branch matching", "POST", B, json_body={"name": "release-1", "source": "main"})
    put("protect/upload to pattern", "release-1", "p", b"x")
    s("protect/delete branch", "DELETE", f"{B}/release-1")
    put("protect/other branch", "left", "p", b"x")
    commit("protect/other commit", "left", "p")
    s("protect/merge in", "POST", f"{repo}/refs/left/merge/main", json_body={"strategy": "source-wins"})
    s("protect/reset", "PUT", f"{B}/main", json_body={"type": "reset"})
    s("protect/clear", "PUT", P, json_body=[])
    s.settle()


def staging(s, repo, B):
    S = f"{B}/left/staging/backing"
    s("staging/address", "GET", S, {"path": "st/1"}, save={"staged": "physical_address"})
    s("staging/link unknown", "PUT", S, {"path": "st/1"}, json_body={"staging": {"physical_address": s.namespace + "/data/made-up"}, "checksum": "abc", "size_bytes": 3})
    s("staging/link", "PUT", S, {"path": "st/1"}, json_body={"staging": {"physical_address": s.vars["staged"]}, "checksum": "abc", "size_bytes": 3, "user_metadata": {"k": "v"}, "content_type": "image/png"})
    s("staging/stat", "GET", f"{repo}/refs/left/objects/stat", {"path": "st/1"})
    s("staging/link again", "PUT", S, {"path": "st/1"}, json_body={"staging": {"physical_address": s.vars["staged"]}, "checksum": "abc", "size_bytes": 3})
    s("staging/presign", "GET", S, {"path": "st/2", "presign": "true"})


def importing(s, repo, B, put):
    if not s.import_dir:
        return
    src = os.path.join(s.import_dir, "src")
    os.makedirs(os.path.join(src, "sub"), exist_ok=True)
    for name, data in {"1.txt": b"one", "2.txt": b"two", "sub/3.txt": b"three"}.items():
        with open(os.path.join(src, name), "wb") as f:
            f.write(data)
    s("import/branch", "POST", B, json_body={"name": "imp", "source": "main"})
    I = f"{B}/imp/import"
    uri = f"local://{src}/"
    done = (lambda st, body: b'"completed":true' in body.replace(b" ", b"") or b'"error"' in body or st >= 400, 30)
    s("import/start", "POST", I, json_body={"paths": [{"type": "common_prefix", "path": uri, "destination": "in/"}], "commit": {"message": "imported", "metadata": {"week": "1"}}}, save={"imp": "id"})
    s("import/status", "GET", I, {"id": s.vars["imp"]}, wait=done)
    s("import/log", "GET", f"{repo}/refs/imp/commits", {"amount": 1})
    s("import/list", "GET", f"{repo}/refs/imp/objects/ls", {"prefix": "in/"})
    s("import/read", "GET", f"{repo}/refs/imp/objects", {"path": "in/sub/3.txt"})
    s("import/one object", "POST", I, json_body={"paths": [{"type": "object", "path": uri + "1.txt", "destination": "in/one"}], "commit": {"message": ""}}, save={"imp2": "id"})
    s("import/one object status", "GET", I, {"id": s.vars["imp2"]}, wait=done)
    s("import/one object list", "GET", f"{repo}/refs/imp/objects/ls", {"prefix": "in/"})
    s("import/status missing", "GET", I, {"id": "no-such"})
    s("import/cancel completed", "DELETE", I, {"id": s.vars["imp"]})
    put("import/dirty", "imp", "dirty", b"x")
    s("import/onto dirty", "POST", I, json_body={"paths": [{"type": "common_prefix", "path": uri, "destination": "in2/"}], "commit": {"message": "x"}}, save={"imp3": "id"})
    s("import/onto dirty status", "GET", I, {"id": s.vars["imp3"]}, wait=done)
    s("import/reset", "PUT", f"{B}/imp", json_body={"type": "reset"})
    s("import/missing source", "POST", I, json_body={"paths": [{"type": "common_prefix", "path": f"local://{s.import_dir}/absent/", "destination": "in3/"}], "commit": {"message": "x"}}, save={"imp4": "id"})
    s("import/missing source status", "GET", I, {"id": s.vars["imp4"]}, wait=done)
    s("import/forbidden source", "POST", I, json_body={"paths": [{"type": "common_prefix", "path": "local:///etc/", "destination": "in4/"}], "commit": {"message": "x"}}, save={"imp5": "id"})
    s("import/forbidden source status", "GET", I, {"id": s.vars["imp5"]}, wait=done)
    s("import/bad type", "POST", I, json_body={"paths": [{"type": "folder", "path": uri, "destination": "x/"}], "commit": {"message": "x"}})
    s("import/no paths", "POST", I, json_body={"paths": [], "commit": {"message": "x"}})


def hooks(s, repo, B, put, commit):
    def action(name, events, hook_id):
        lines = [f"name: {name}", "on:"] + [f"  {e}:\n    branches: [\"hooked*\"]" for e in events]
        lines += ["hooks:", f"  - id: {hook_id}", "    type: webhook", "    properties:", f"      url: \"{s.hook.url}/{hook_id}\""]
        return "\n".join(lines).encode() + b"\n"

    s("hook/branch", "POST", B, json_body={"name": "hooked", "source": "main"})
    put("hook/action", "hooked", "_lakefs_actions/audit.yaml", action("audit", ["pre-commit", "post-commit", "pre-merge", "post-merge"], "audit"), keep_body=False)
    s.hook.events.clear()
    commit("hook/commit allowed", "hooked", "with action", save="h1")
    s.await_events(2)
    s.note("hook/events of commit", sorted(s.hook.events, key=lambda e: e.get("event_type", "")))
    s.hook.status = 500
    s.hook.events.clear()
    put("hook/put", "hooked", "h/1", b"1")
    commit("hook/commit refused", "hooked", "refused")
    s("hook/still dirty", "GET", f"{B}/hooked/diff")
    s.hook.status = 200
    commit("hook/commit after all", "hooked", "accepted")
    s("hook/source branch", "POST", B, json_body={"name": "to-hooked", "source": "hooked"})
    put("hook/source put", "to-hooked", "h/2", b"2")
    commit("hook/source commit", "to-hooked", "src")
    s.hook.status = 403
    s("hook/merge refused", "POST", f"{repo}/refs/to-hooked/merge/hooked", json_body={})
    s.hook.status = 200
    s.hook.events.clear()
    s("hook/merge allowed", "POST", f"{repo}/refs/to-hooked/merge/hooked", json_body={"message": "merged"})
    s.await_events(2)
    s.note("hook/events of merge", sorted(s.hook.events, key=lambda e: e.get("event_type", "")))
    runs = s("hook/runs", "GET", f"{repo}/actions/runs", {"branch": "hooked", "amount": 100},
             order=lambda r: (r["event_type"], r["status"], bool(r["commit_id"])),
             wait=(lambda status, payload: status != 200 or json.loads(payload)["pagination"]["results"] == 8, 10))
    first = next((r["run_id"] for r in runs.get("results") or [] if r["status"] == "failed" and r["event_type"] == "pre-commit"), "none") if isinstance(runs, dict) else "none"
    s.vars["run"] = first
    s("hook/run", "GET", f"{repo}/actions/runs/{first}")
    s("hook/run hooks", "GET", f"{repo}/actions/runs/{first}/hooks")
    s("hook/run missing", "GET", f"{repo}/actions/runs/no-such")
    put("hook/bad yaml", "hooked", "_lakefs_actions/bad.yaml", b"name: [", keep_body=False)
    s.settle()
    commit("hook/commit with bad yaml", "hooked", "bad")


def ending(s, repo):
    s("end/delete", "DELETE", repo)
    s.settle()
    s("end/get", "GET", repo)
