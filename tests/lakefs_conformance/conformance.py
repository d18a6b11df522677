#!/usr/bin/env python3
"""Run one scenario of lakeFS API calls against a server; record what it answers, or compare with a recording.

    python conformance.py record --endpoint URL --key K --secret S [--import-dir DIR] --golden golden.json
    python conformance.py check  --endpoint URL --key K --secret S [--import-dir DIR] --golden golden.json

Only the standard library is used. Values that differ from run to run (ids, times, addresses) are replaced by
placeholders before comparing. The process must be able to listen on 127.0.0.1 for the webhook steps.
"""

import argparse
import base64
import http.client
import http.server
import json
import re
import sys
import threading
import time
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

from scenario import scenario

HEADERS_KEPT = (
    *("content-type", "content-length", "content-range", "etag"),
    *("accept-ranges", "www-authenticate", "location"),
)
TIME_KEYS = {"mtime", "creation_date", "update_time", "start_time", "end_time", "expiry", "presign_expiry"}
HEX64 = re.compile(r"\b[0-9a-f]{64}\b")
RUN_ID = re.compile(r"\b[0-9a-v]{20}\b")
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Session:
    def __init__(self, args, golden):
        u = urllib.parse.urlsplit(args.endpoint)
        self.host, self.port = u.hostname, u.port
        self.base = u.path.rstrip("/") or "/api/v1"
        self.auth = "Basic " + base64.b64encode(f"{args.key}:{args.secret}".encode()).decode()
        self.key = args.key
        self.import_dir = args.import_dir
        self.golden, self.only, self.settle_seconds = golden, args.only, args.settle
        self.got, self.names, self.vars = {}, [], {"repo": "conf-" + uuid.uuid4().hex[:10]}
        self.namespace = f"local://{self.vars['repo']}"
        self.failures = []
        self.hook = WebhookServer()

    # -- one call ---------------------------------------------------------------------------------
    def __call__(
        self,
        name,
        method,
        path,
        query=None,
        json_body=None,
        body=None,
        headers=None,
        auth=True,
        save=None,
        raw=False,
        wait=None,
        keep_body=True,
        order=None,
    ):
        """Send one call and remember its normalised answer under `name`. `save` = {variable: JSON path}; `order` sorts
        a listing whose order the server does not promise."""
        if name in self.names:
            raise SystemExit(f"two steps are called {name}")
        self.names.append(name)
        target = path if raw else self.base + urllib.parse.quote(path, safe="/%~^@$:")
        if query:
            target += "?" + urllib.parse.urlencode(query, doseq=True, quote_via=urllib.parse.quote)
        h = dict(headers or {})
        if auth is True:
            h["Authorization"] = self.auth
        elif auth:
            h["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        data = body
        if json_body is not None:
            data, h["Content-Type"] = (
                json.dumps(json_body).encode(),
                h.get("Content-Type", "application/json"),
            )
        deadline = time.time() + (wait[1] if wait else 0)
        while True:
            status, heads, payload = self._send(method, target, data, h)
            if not wait or wait[0](status, payload) or time.time() > deadline:
                break
            time.sleep(0.05)
        parsed = self._parse(heads, payload)
        if order and isinstance(parsed, dict):
            parsed["results"] = sorted(parsed.get("results") or [], key=order)
        for var, at in (save or {}).items():
            value = parsed
            for part in at.split(".") if at else []:
                value = (
                    value[int(part)]
                    if part.isdigit()
                    else value.get(part)
                    if isinstance(value, dict)
                    else None
                )
            self.vars[var] = value if value is not None else f"missing-{var}"
        kept = {k: self._mask(v) for k, v in heads.items() if k in HEADERS_KEPT}
        if isinstance(parsed, (dict, list)):
            kept.pop("content-length", None)
        answer = {
            "request": self._mask(f"{method} {target.removeprefix(self.base)}"),
            "status": status,
            "headers": kept,
            "body": self._normal(parsed) if keep_body else "<not compared>",
        }
        self.got[name] = answer
        return parsed

    def _send(self, method, target, data, headers):
        c = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            c.request(method, target, body=data, headers=headers)
            r = c.getresponse()
            payload = r.read()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, payload
        except (OSError, http.client.HTTPException) as e:
            return 0, {}, f"no answer: {type(e).__name__}".encode()
        finally:
            c.close()

    @staticmethod
    def _parse(heads, payload):
        if "json" in heads.get("content-type", ""):
            try:
                return json.loads(payload)
            except ValueError:
                pass
        try:
            return payload.decode()
        except UnicodeDecodeError:
            return "base64:" + base64.b64encode(payload).decode()

    # -- normalisation ----------------------------------------------------------------------------
    def _mask(self, text):
        for var, value in sorted(self.vars.items(), key=lambda kv: -len(str(kv[1]))):
            if isinstance(value, str) and len(value) >= 8:
                text = text.replace(value, f"<{var}>").replace(urllib.parse.quote(value, safe=""), f"<{var}>")
        text = text.replace(self.hook.url, "<hook>").replace(self.key, "<access_key>")
        if self.import_dir:
            text = text.replace(self.import_dir, "<import_dir>")
        return STAMP.sub("<stamp>", RUN_ID.sub("<run_id>", HEX64.sub("<hex64>", text)))

    def _normal(self, value, key=""):
        if isinstance(value, dict):
            return {k: self._normal(v, k) for k, v in sorted(value.items())}
        if isinstance(value, list):
            return [self._normal(v, key) for v in value]
        if key in TIME_KEYS and isinstance(value, (int, float)):
            return "<time>"
        if key == "physical_address" and isinstance(value, str):
            return "<address>"
        if key == "run_id" or key == "hook_run_id":
            return f"<{key}>"
        return self._mask(value) if isinstance(value, str) else value

    def settle(self):
        """Give a server that caches settings, actions and repositories the time to see the last change."""
        time.sleep(self.settle_seconds)

    def await_events(self, number):
        """Wait until the webhook received so many: what runs after an action does so on its own."""
        deadline = time.time() + 10
        while len(self.hook.events) < number and time.time() < deadline:
            time.sleep(0.01)

    def note(self, name, value):
        """Remember a value that is no answer of the server (what a webhook received, say)."""
        self.names.append(name)
        self.got[name] = {"value": self._normal(value)}


class WebhookServer:
    """Receives lakeFS webhooks; answers with `self.status`."""

    def __init__(self):
        self.events: list[Any] = []
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    outer.events.append(json.loads(data))
                except ValueError:
                    outer.events.append(data.decode(errors="replace"))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *a):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("mode", choices=["record", "check"])
    p.add_argument("--endpoint", required=True)
    p.add_argument("--key", required=True)
    p.add_argument("--secret", required=True)
    p.add_argument("--golden", required=True)
    p.add_argument("--import-dir", default="", help="an empty folder that the server may import from")
    p.add_argument("--only", default="", help="report only steps whose name starts with this")
    p.add_argument(
        "--wording", action="store_true", help="also print errors that differ in their wording alone"
    )
    p.add_argument(
        "--settle", type=float, default=0, help="seconds a setting may be cached; 9 for a real lakeFS"
    )
    p.add_argument("--server", default="", help="record: what was recorded, e.g. 'lakeFS 1.84.0'")
    a = p.parse_args()
    golden = json.loads(Path(a.golden).read_text())["steps"] if a.mode == "check" else {}
    s = Session(a, golden)
    try:
        scenario(s)
    except Exception as e:  # the scenario cannot go on: report what was seen so far
        print(f"the scenario stopped after step {s.names[-1] if s.names else '-'}: {e!r}", file=sys.stderr)
        if a.mode == "record":
            raise
    if a.mode == "record":
        recorded = {"server": a.server, "steps": s.got}
        Path(a.golden).write_text(json.dumps(recorded, indent=1, sort_keys=False, ensure_ascii=False))
        print(f"{len(s.got)} steps recorded")
        return 0
    good = bad = worded = 0
    for name, want in golden.items():
        if not name.startswith(a.only):
            continue
        have = s.got.get(name)
        parts = [p for p in sorted(want) if p != "request" and (have or {}).get(p) != want[p]]
        if have and not parts:
            good += 1
            continue
        if have and parts == ["body"] and only_wording(want, have):
            worded += 1
            if a.wording:
                print(
                    f"WORDED {name}\n     lakeFS: {want['body']['message']!r}\n     here:   {have['body']['message']!r}"
                )
            continue
        bad += 1
        print(f"DIFFERS {name}: {want.get('request', '')}")
        print(told_apart(want, have, parts))
    print(f"{good} steps agree, {worded} agree but for the wording of an error, {bad} differ")
    return 1 if bad else 0


def told_apart(want, have, parts):
    """The parts in which two answers differ, for a reader."""
    if have is None:
        return "   not reached"
    lines = []
    for part in parts:
        shown = [json.dumps(answer.get(part), ensure_ascii=False)[:600] for answer in (want, have)]
        lines += [f"   {part}", f"     lakeFS: {shown[0]}", f"     here:   {shown[1]}"]
    return "\n".join(lines)


def only_wording(want, have):
    """Both are errors of one status, each with a non-empty message, and nothing else sets them apart."""
    w, h = want["body"], have["body"]
    if want["status"] < 400 or not isinstance(w, dict) or not isinstance(h, dict):
        return False
    return bool(w.get("message")) and bool(h.get("message")) and {**w, "message": ""} == {**h, "message": ""}


if __name__ == "__main__":
    sys.exit(main())
