"""A shelf of tiny packages, made here, that pip, apt-get and npm fetch from: pip's own client with a folder for its
index, and scripts in the place of the other two that say what they were asked."""

import hashlib
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile
import zlib

CLIENT = """#!/bin/sh
echo "{client} $*" >> "{log}"
for last; do :; done
found=$(ls "{shelf}" | grep "^$(echo "$last" | tr @ -)[-_]*[0-9.]*" | head -1)
if [ -z "$found" ]; then echo "{client}: no package $last" >&2; exit 1; fi
cp "{shelf}/$found" .
"""


class Shelf:
    """`log` is what the scripts were asked, a line each."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.bin, self.log_file = folder / "shelf", folder / "bin", folder / "asked.log"
        self.folder.mkdir(parents=True)
        self.bin.mkdir()
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(self.folder))
        for client in ("apt-get", "npm"):
            script = self.bin / client
            script.write_text(CLIENT.format(client=client, log=self.log_file, shelf=self.folder))
            script.chmod(0o755)

    @property
    def log(self):
        return self.log_file.read_text().splitlines() if self.log_file.exists() else []

    def npm(self, name, version, files):
        (self.folder / f"{name}-{version}.tgz").write_bytes(tar(files, "w:gz"))

    def deb(self, name, version, files):
        data = lzma.compress(tar({f"./{path}": text for path, text in files.items()}, "w:"))
        members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}
        (self.folder / f"{name}_{version}_all.deb").write_bytes(ar(members))

    def wheel(self, name, version, files):
        stem = f"{name.replace('-', '_')}-{version}"
        about = {
            f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with zipfile.ZipFile(self.folder / f"{stem}-py3-none-any.whl", "w") as archive:
            for path, text in {**files, **about, f"{stem}.dist-info/RECORD": ""}.items():
                archive.writestr(path, text)


def tar(files, mode):
    """A tar of path: text, bytes, or None for a link that leads out."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            if text is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(entry)
                continue
            data = text.encode() if isinstance(text, str) else text
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def ar(members):
    """A Unix archive; a member of odd size is followed by one more byte."""
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return out


def pak(texts, aliases=()):
    """A Chromium resource file: number: text, and (number, which of the texts)."""
    place = 12 + 6 * (len(texts) + 1) + 4 * len(aliases)
    table, body = b"", b""
    for number, text in sorted(texts.items()):
        table += struct.pack("<HI", number, place + len(body))
        body += text.encode()
    table += struct.pack("<HI", 0, place + len(body))
    same = b"".join(struct.pack("<HH", *alias) for alias in aliases)
    return struct.pack("<IIHH", 5, 1, len(texts), len(aliases)) + table + same + body


def rdb(*vectors):
    """R's data base of vectors of strings."""
    out = b""
    for lines in vectors:
        plain = b"X\n" + struct.pack(">IIII", 3, 0x40000, 0x30500, 5) + b"UTF-8" + struct.pack(">II", 16, len(lines))
        plain += b"".join(struct.pack(">Ii", 0x40009, len(line.encode())) + line.encode() for line in lines)
        packed = zlib.compress(plain)
        out += struct.pack(">I", len(plain)) + packed
    return out


def talk(*said):
    """A conversation of chitchat's form, of (who, what)."""
    turns = [[{"text": text, "sender": who, "timestamp": ""}] for who, text in said]
    return {"messages": turns, "prompt": "", "ratings": {}}


def chitchat(talks):
    """The files of that package."""
    named = {hashlib.sha256(str(n).encode()).hexdigest()[:8]: value for n, value in enumerate(talks)}
    return {"chitchat_dataset/dataset.json": json.dumps(named)}
