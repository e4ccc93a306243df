"""A stand-in for the Hugging Face hub on 127.0.0.1: as much of its protocol as transformers and datasets use.

Small files are answered at once, large ones by a redirect to another host ("localhost"), as the hub answers them. It
does not speak Xet, the hub's own transfer protocol: without Xet's headers the client libraries take plain HTTP.
"""

import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".zst", ".parquet")
"""Endings that the hub keeps in large file storage."""

Files = dict[str, bytes]


class Hub:
    """A hub that holds ``models`` and ``datasets``: name -> revision -> path -> bytes.

    ``gated``: names that ask for a login. ``break_next``: file -> how many of its next transfers stop half way.
    ``silent``: connections are taken and never answered. ``down``: every answer is 503. ``requests``: what was asked.
    """

    def __init__(self, models: dict[str, dict[str, Files]], datasets: dict[str, dict[str, Files]]):
        self.repositories = {"models": models, "datasets": datasets}
        self.gated: set[str] = set()
        self.break_next: dict[str, int] = {}
        self.silent = self.down = False
        self.requests: list[tuple[str, str, str]] = []
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens, after a stop on the same port as before."""
        self.connections: set[socket.socket] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Gone: the port refuses, and open connections are cut."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already by the other side

    def large(self, digest: str) -> tuple[str, bytes]:
        """(path, bytes) of the large file with this SHA-256."""
        for kind in self.repositories.values():
            for revisions in kind.values():
                for files in revisions.values():
                    for path, data in files.items():
                        if path.endswith(LARGE) and sha256(data) == digest:
                            return path, data
        raise KeyError(digest)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self):
        self.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.route()

    def route(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if self.hub.silent:
            self.rfile.read(1)  # nothing comes: returns when the client gives up
            return
        if self.hub.down:
            return self.refuse(503, "", "down for maintenance")
        if path == "/":
            return self.answer(200, b"a stand-in for the hub")
        if path.startswith("/cdn/"):
            return self.send_file(*self.hub.large(path.removeprefix("/cdn/")))
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)/?(.*))?", path)
        resolve = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            kind, name, what, revision, rest = api.groups()
        elif resolve:
            kind, name, revision, rest = resolve.groups()
            kind, what = "datasets" if kind else "models", "resolve"
        else:
            return self.refuse(404, "", "Sorry, we can't find the page you are looking for.")
        if name in self.hub.gated:
            return self.refuse(401, "GatedRepo", f"Access to {name} is restricted. You must be authenticated.")
        revisions = self.hub.repositories[kind].get(name)
        if revisions is None:  # the hub tells a stranger no more than that
            return self.refuse(401, "", "Invalid username or password.")
        by_commit = {commit_of(name, known): known for known in revisions}
        revision = by_commit.get(revision or "main", revision or "main")
        if revision not in revisions:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = commit_of(name, revision), revisions[revision]
        if what == "resolve":
            return self.resolve(commit, files, rest)
        if what == "tree":
            return self.tree(files, rest)
        if what == "paths-info":
            wanted = parse_qs(self.body.decode())["paths"]
            return self.answer_json([entry(path, files[path]) for path in wanted if path in files])
        siblings = [{"rfilename": path} for path in files]
        self.answer_json({"id": name, "sha": commit, "private": False, "tags": [], "siblings": siblings})

    do_HEAD = do_GET = route

    def resolve(self, commit: str, files: Files, path: str):
        if path not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        data = files[path]
        if not path.endswith(LARGE):
            return self.send_file(path, data, {"X-Repo-Commit": commit})
        linked = {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
        self.answer(302, b"", {"Location": f"http://localhost:{self.hub.port}/cdn/{sha256(data)}", **linked})

    def tree(self, files: Files, folder: str):
        inside = {path: data for path, data in files.items() if path.startswith(f"{folder}/" if folder else "")}
        if not inside:
            return self.refuse(404, "EntryNotFound", f"{folder} does not exist")
        depth = folder.count("/") + 1 if folder else 0
        entries, recursive = [], "recursive=true" in urlsplit(self.path).query.lower()
        for above in sorted({"/".join(path.split("/")[: depth + 1]) for path in inside if path.count("/") > depth}):
            entries.append({"type": "directory", "path": above, "size": 0, "oid": commit_of(above, "tree")})
        shown = [path for path in inside if recursive or path.count("/") == depth]
        self.answer_json(entries + [entry(path, files[path]) for path in shown])

    def send_file(self, path: str, data: bytes, headers: dict[str, str] | None = None):
        """The bytes that Range asks for; half of them where this transfer is to break."""
        headers = {"ETag": f'"{sha256(data)}"', "Accept-Ranges": "bytes", **(headers or {})}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, status = 0, 200
        if asked:
            start, end = int(asked[1]), int(asked[2] or len(data) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{min(end, len(data)) - 1}/{len(data)}"
            data, status = data[start:end], 206
        if self.command == "GET" and self.hub.break_next.get(path, 0) > 0:
            self.hub.break_next[path] -= 1
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.answer(status, data, headers)

    def answer_json(self, value: object):
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None):
        known = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.answer(status, json.dumps({"error": message}).encode(), known)

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def commit_of(name: str, revision: str) -> str:
    """A made-up commit hash: 40 hexadecimal digits, the same for the same names."""
    return hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()


def entry(path: str, data: bytes) -> dict[str, object]:
    """What the hub's listings say about a file."""
    known = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if path.endswith(LARGE):
        known["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
    return known


GLUE_SPLITS = {"train": 40, "validation": 12, "test": 5}
GLUE_CONFIGS = {
    "ax": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), {"test": 4}),
    "cola": (("sentence",), ("unacceptable", "acceptable"), GLUE_SPLITS),
    "mnli": (
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        {"train": 60, "validation_matched": 12, "validation_mismatched": 9, "test_matched": 4, "test_mismatched": 3},
    ),
    "mrpc": (("sentence1", "sentence2"), ("not_equivalent", "equivalent"), GLUE_SPLITS),
    "qnli": (("question", "sentence"), ("entailment", "not_entailment"), GLUE_SPLITS),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), GLUE_SPLITS),
    "rte": (("sentence1", "sentence2"), ("entailment", "not_entailment"), GLUE_SPLITS),
    "sst2": (("sentence",), ("negative", "positive"), GLUE_SPLITS),
    "stsb": (("sentence1", "sentence2"), (), GLUE_SPLITS),
}
"""Configurations of nyu-mll/glue: text columns, classes, and here a few rows a split."""


def glue_row(config: str, split: str, number: int) -> dict[str, object]:
    """Row ``number`` of the tiny GLUE, under the hub's column names; labels of test splits are hidden, as GLUE's."""
    columns, classes, _ = GLUE_CONFIGS[config]
    label = float(number % 11) / 2 if not classes else number * number % len(classes)
    if split.startswith("test"):
        label = -1 if classes else -1.0
    return {column: f'{config} {split} {column} "{number}' for column in columns} | {"label": label, "idx": number}


def tiny_glue() -> Files:
    """GLUE as nyu-mll/glue keeps it: a Parquet file a split, and a card that names columns, classes and files."""
    import io

    import pyarrow
    import pyarrow.parquet
    import yaml

    files, about, places = {}, [], []
    for config, (columns, classes, splits) in GLUE_CONFIGS.items():
        names = {"class_label": {"names": {str(i): name for i, name in enumerate(classes)}}}
        features = [{"name": column, "dtype": "string"} for column in columns]
        features += [{"name": "label", "dtype": names if classes else "float32"}, {"name": "idx", "dtype": "int32"}]
        sizes = [{"name": split, "num_bytes": 1, "num_examples": rows} for split, rows in splits.items()]
        about.append({"config_name": config, "features": features, "splits": sizes})
        where = [{"split": split, "path": f"{config}/{split}-*"} for split in splits]
        places.append({"config_name": config, "data_files": where})
        kinds = [(column, pyarrow.string()) for column in columns]
        kinds += [("label", pyarrow.int64() if classes else pyarrow.float32()), ("idx", pyarrow.int32())]
        for split, rows in splits.items():
            table = [glue_row(config, split, number) for number in range(rows)]
            written = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, pyarrow.schema(kinds)), written)
            files[f"{config}/{split}-00000-of-00001.parquet"] = written.getvalue()
    card = yaml.safe_dump({"dataset_info": about, "configs": places}, sort_keys=False)
    return {"README.md": f"---\n{card}---\n# GLUE\n".encode(), **files}
