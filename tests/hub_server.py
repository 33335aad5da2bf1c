"""A small server that speaks as much of the hub's language as downloads need: repositories, trees,
refs, files with ranges; and that counts what it sent.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Hub:
    """Repositories by name: for each its revisions, which are folders. `refuse` gives an answer in
    place of one (status, the hub's word for it); `ranges` whether parts of files are given; `sent`
    counts bytes of files.
    """

    models: dict[str, dict[str, Path]] = field(default_factory=dict)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    ranges: bool = True
    cut: int | None = None
    sent: int = 0
    asked: list[str] = field(default_factory=list)

    def commit(self, model: str, revision: str) -> str:
        """The commit of a revision: a digest of its name."""
        for name in self.models[model]:
            digest = hashlib.sha1(f"{model}@{name}".encode()).hexdigest()
            if revision in (name, digest):
                return digest
        raise KeyError(revision)

    def folder(self, model: str, revision: str) -> Path:
        """The folder of a revision, by its name or its commit."""
        return next(
            folder
            for name, folder in self.models[model].items()
            if self.commit(model, name) == self.commit(model, revision)
        )


class Handler(BaseHTTPRequestHandler):
    """Answers for the hub of its server."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """A request for the headers of an answer."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """A request for an answer."""
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """Find out what is asked for, and give it."""
        hub: Hub = self.server.hub
        path = unquote(urlsplit(self.path).path).strip("/")
        hub.asked.append(path)
        of_api = re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/(revision|tree|refs)(?:/(.*))?)?", path)
        of_file = re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        model = (of_api or of_file)[1] if of_api or of_file else ""
        if model in hub.refuse:
            status, word = hub.refuse[model]
            return self.refuse(status, word, body=body)
        if model not in hub.models:
            return self.refuse(404, "RepoNotFound", body=body)
        try:
            if of_file:
                return self.file(hub, model, of_file[2], of_file[3], body=body)
            return self.facts(hub, model, of_api[2], of_api[3] or "", body=body)
        except KeyError:
            return self.refuse(404, "RevisionNotFound", body=body)

    def refuse(self, status: int, word: str, *, body: bool) -> None:
        """An error as the hub words it."""
        self.send(status, json.dumps({"error": word}).encode(), {"X-Error-Code": word}, body=body)

    def facts(self, hub: Hub, model: str, what: str | None, rest: str, *, body: bool) -> None:
        """What the API says of a repository."""
        if what == "refs":
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": hub.commit(model, name)}
                for name in hub.models[model]
            ]
            value: object = {"branches": branches, "tags": [], "converts": []}
        elif what == "tree":
            revision, _, inside = rest.partition("/")
            root = hub.folder(model, revision)
            if not (root / inside).is_dir():
                return self.refuse(404, "EntryNotFound", body=body)
            value = [entry(root, path) for path in sorted((root / inside).iterdir())]
        else:
            value = {"id": model, "sha": hub.commit(model, rest or "main"), "siblings": []}
        return self.send(200, json.dumps(value).encode(), {}, body=body)

    def file(self, hub: Hub, model: str, revision: str, name: str, *, body: bool) -> None:
        """A file of a repository, or a part of it."""
        path = hub.folder(model, revision) / name
        if not path.is_file():
            return self.refuse(404, "EntryNotFound", body=body)
        data = path.read_bytes()
        more = {
            "X-Repo-Commit": hub.commit(model, revision),
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
            "Accept-Ranges": "bytes",
        }
        status = 200
        part = RANGE.fullmatch(self.headers.get("Range", ""))
        if part and hub.ranges:
            first, last = int(part[1]), int(part[2] or len(data) - 1)
            more["Content-Range"] = f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"
            status, data = 206, data[first : last + 1]
        return self.send(status, data, more, body=body, cut=hub.cut, count=True)

    def send(self, status, data, headers, *, body, cut=None, count=False) -> None:
        """An answer; with `cut` it breaks off after so many bytes."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data if cut is None else data[:cut])
            self.server.hub.sent += len(data) * count
            if cut is not None and cut < len(data):
                self.close_connection = True


def entry(root: Path, path: Path) -> dict:
    """A file or folder as a tree lists it."""
    inside = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "path": inside, "oid": "0" * 40, "size": 0}
    return {"type": "file", "path": inside, "oid": "0" * 40, "size": path.stat().st_size}


def serve(hub: Hub) -> ThreadingHTTPServer:
    """The server of a hub, at a port of its own on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # who asked may hang up
    server.hub = hub
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server
