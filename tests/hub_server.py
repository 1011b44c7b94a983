"""A server on this machine that speaks the part of the Hugging Face Hub's API that huggingface_hub uses for a model."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from urllib.parse import unquote, urlsplit


class Hub(http.server.ThreadingHTTPServer):
    """Holds repositories in memory.

    Attributes:
        repos: Files of each repository, and what was said when it was made.
        asked: Method and path of each request.
        failing: Answer everything with status 500.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.made: dict[str, dict] = {}
        self.gated: set[str] = set()
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.failing = False
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def commit(self, repo: str) -> str:
        content = sorted((k, hashlib.sha1(v).hexdigest()) for k, v in self.repos[repo].items())
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if self.server.failing:
            return self.send(500, {"error": "out of order"})
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            if repo in self.server.repos:
                return self.send(409, {"error": "exists", "url": f"{self.server.url}/{repo}"})
            self.server.repos[repo], self.server.made[repo] = {}, wanted
            return self.send(200, {"url": f"{self.server.url}/{repo}", "name": repo})
        if path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if parts[0] == "lfs":
            self.server.stored[parts[1]] = body
            return self.send(200, {})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return self.send(200, {"transfer": "basic", "objects": objects})
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in self.server.repos:
            return self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if name in self.server.gated:
            return self.send(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        files = self.server.repos[name]
        what, revision, rest = (
            (parts[4:6] + [""])[:3] if parts[0] == "api" else (parts[2], parts[3], "/".join(parts[4:]))
        )
        if revision not in ("main", "v1", self.server.commit(name)):
            return self.send(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        if what == "tree":
            listed = [
                {"type": "file", "path": k, "size": len(v), "oid": hashlib.sha1(v).hexdigest()}
                for k, v in files.items()
            ]
            return self.send(200, listed)
        if what == "revision":
            about = {"id": name, "sha": self.server.commit(name), "siblings": [{"rfilename": k} for k in files]}
            return self.send(200, about)
        if what == "preupload":
            wanted = [f["path"] for f in json.loads(body)["files"]]
            modes = {p: "lfs" if p.endswith(".safetensors") else "regular" for p in wanted}
            return self.send(
                200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}
            )
        if what == "commit":
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.stored[value["oid"]]
            oid = self.server.commit(name)
            return self.send(
                200, {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"}
            )
        if rest not in files:
            return self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content = files[rest]
        about = {"X-Repo-Commit": self.server.commit(name), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        return self.send(200, content, about)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def send(self, status: int, content: object, headers: dict | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        about = {"Content-Type": "application/octet-stream" if isinstance(content, bytes) else "application/json"}
        for key, value in {**about, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
