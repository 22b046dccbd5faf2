"""A Hugging Face Hub on loopback, as far as reading data sets goes: the API's answer on a revision, and its files.

    with HubSite() as hub:
        sha = hub.commit("owner/name", {"data/train.jsonl": b"..."}, card={"configs": [...]})

As on the Hub, a large file (here: Parquet) is in LFS, named by its sha256, and /resolve/ redirects to where it is kept;
others are named by the digest that git gives a blob. `gated` data sets want the token. `asked` counts files by path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from urllib.parse import unquote

from frozen_site import FrozenSite, Reply


class HubSite(FrozenSite):
    """The server. A data set of a private or gated name answers 401 without its token."""

    def __init__(self, *, token: str = "", gated: frozenset[str] = frozenset(), **kwargs):
        super().__init__(pages={}, robots="User-agent: *\nDisallow: /\n", **kwargs)
        self.token, self.gated = token, gated
        self.asked: Counter[str] = Counter()
        self.commits: dict[tuple[str, str], tuple[dict, dict[str, bytes]]] = {}
        self.large: dict[str, bytes] = {}

    def commit(self, dataset: str, files: dict[str, bytes], card=None, branch: str = "main") -> str:
        """Put these files on a branch in the place of what was there; gives the commit."""
        siblings = []
        for name, data in sorted(files.items()):
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"rfilename": name, "size": len(data), "blobId": blob}
            if name.endswith(".parquet"):
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
                self.large[digest] = data
            siblings.append(entry)
        sha = hashlib.sha1(json.dumps([dataset, siblings, card]).encode()).hexdigest()
        info = {
            "id": dataset, "sha": sha, "private": False, "gated": False, "downloads": 1, "cardData": card or {},
            "siblings": siblings,
        }  # fmt: skip
        self.commits[dataset, branch] = self.commits[dataset, sha] = (info, dict(files))
        return sha

    def next_reply(self, path: str) -> Reply:
        said = self.headers[path][-1]
        if path in self.replies and path != "/robots.txt":
            return super().next_reply(path)
        with self._lock:
            self.requests[path] += 1
        if found := re.fullmatch(r"/large/([0-9a-f]{64})\?X-Amz-Signature=\w+", path):
            data = self.large[found[1]]
            return Reply(body=data, content_type="binary/octet-stream", headers={"ETag": f'"{found[1]}"'})
        if found := re.fullmatch(r"/api/datasets/([\w.-]+(?:/[\w.-]+)?)/revision/([^?]+)\?blobs=true", path):
            return self._info(found[1], unquote(found[2]), said)
        if found := re.fullmatch(r"/datasets/([\w.-]+(?:/[\w.-]+)?)/resolve/([0-9a-f]{40})/(.+)", path):
            return self._file(found[1], found[2], unquote(found[3]), said)
        return Reply(404, "not here")

    def _refused(self, dataset: str, said: dict[str, str]) -> bool:
        return dataset in self.gated and said.get("Authorization") != f"Bearer {self.token}"

    def _info(self, dataset: str, revision: str, said: dict[str, str]) -> Reply:
        names = {name for name, _ in self.commits}
        if dataset not in names or self._refused(dataset, said):
            return _error(401, "RepoNotFound", "Invalid username or password.")
        if (dataset, revision) not in self.commits:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        info, _ = self.commits[dataset, revision]
        return Reply(body=json.dumps(info), content_type="application/json; charset=utf-8")

    def _file(self, dataset: str, sha: str, name: str, said: dict[str, str]) -> Reply:
        if self._refused(dataset, said):
            return _error(401, "GatedRepo", "Access to it is restricted.")
        self.asked[name] += 1
        data = self.commits[dataset, sha][1].get(name)
        if data is None:
            return _error(404, "EntryNotFound", "Entry not found")
        if name.endswith(".parquet"):
            digest = hashlib.sha256(data).hexdigest()
            return Reply(
                302, headers={"Location": f"/large/{digest}?X-Amz-Signature=abc123", "X-Linked-ETag": f'"{digest}"'}
            )
        return Reply(body=data, content_type="text/plain; charset=utf-8")


def _error(status: int, code: str, text: str) -> Reply:
    return Reply(status, json.dumps({"error": text}), {"X-Error-Code": code}, "application/json; charset=utf-8")
