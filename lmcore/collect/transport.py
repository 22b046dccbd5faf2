"""One request on the wire: guarded address, bounded time, bounded bytes, honest end of the body.

`requests` does the talking. What it leaves to its caller is done here: the address behind a name is checked
on the connected socket, so that no redirect and no DNS answer leads into a private network; a clock closes
the socket of a response that drips; the body is decompressed piece by piece, never beyond the cap, and a
body that ends before its length or before the end of its gzip stream is told apart from a whole one.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from lmcore.collect.deadline import Deadline, shut
from lmcore.collect.extract import media_type
from lmcore.collect.links import site_of

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
PIECE = 64 * 1024

# Gives the file that a body is to go into, when the status is 2xx: (status, headers in lower case).
Sink = Callable[[int, Mapping[str, str]], BinaryIO]


@dataclass(frozen=True)
class Answer:
    """What came back for one request; `failure` is "" or the outcome that says why there is no body."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""
    failure: str = ""
    reason: str = ""
    size: int = 0  # bytes of the decompressed body, here or in the sink


class PrivateAddressError(Exception):
    """A name leads to an address that is not public."""


class Transport:
    """Sends single GET requests, one session per thread, no cookies, no redirects, no retries.

    `private_sites` are the `host:port` that may lie in a private or loopback network.
    """

    def __init__(self, user_agent: str, private_sites: frozenset[str]) -> None:
        self._user_agent = user_agent
        self._private_sites = set(private_sites)
        self._local = threading.local()
        self._threads: list[dict[str, Any]] = []

    def close(self) -> None:
        """Cut off every request under way."""
        for state in self._threads:
            shut(state)

    def permit_private(self, site: str) -> None:
        """Add a `host:port` that may be reached although it is private."""
        self._private_sites.add(site)

    def get(
        self,
        url: str,
        *,
        timeout: float,
        max_bytes: int,
        types: frozenset[str] | None,
        cut: bool = False,
        headers: Mapping[str, str] | None = None,
        sink: Sink | None = None,
    ) -> Answer:
        """GET one URL. Never raises on what a server does.

        `timeout`: seconds for the whole response. `max_bytes`: cap on the decompressed body; beyond it the
        answer is "too_large", or the body cut there when `cut`. `types`: content types worth a body; None: any.
        `headers` are sent besides our own, in their place where they have the same name. A body goes, as it comes,
        into the file that `sink` opens: what is in it when the answer has a failure is its beginning.
        """
        site = site_of(url)
        private = site in self._private_sites
        deadline = Deadline(timeout)
        self._local.socket = None
        self._local.private = private
        try:
            proxied = not private and bool(requests.utils.get_environ_proxies(url))
            if not private:
                _refuse_private(urlsplit(url).hostname or "", resolve=not proxied)
            with (
                deadline.watch(self._local),
                self._session(private).get(
                    url,
                    headers={
                        "User-Agent": self._user_agent,
                        "Accept-Encoding": "gzip, deflate",
                        "Accept": "text/html, */*;q=0.5",
                        **(headers or {}),
                    },
                    timeout=(min(CONNECT_SECONDS, timeout / 2), min(READ_SECONDS, timeout / 2)),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                return _read(response, deadline, max_bytes, types, cut, sink)
        except PrivateAddressError as error:
            return Answer(failure="private_address", reason=str(error))
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
        ) as error:
            if deadline.passed:
                return Answer(failure="too_slow", reason=f"no complete answer within {timeout:g} s")
            return _failure(error)

    def _session(self, private: bool) -> requests.Session:
        name = "private_session" if private else "session"
        session: requests.Session | None = getattr(self._local, name, None)
        if session is None:
            self._threads.append(self._local.__dict__)
            session = _Session()
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            session.auth = lambda request: request  # no credentials out of ~/.netrc
            if private:
                # No proxy of the environment for a site on this machine or in this network.
                session.trust_env = False
                session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
            adapter = _GuardedAdapter(self._local)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            setattr(self._local, name, session)
        return session


class _Session(requests.Session):
    """A session that keeps its hands off redirects: even when told not to follow one, requests reads its whole
    body into memory and parses its target."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """No redirect is requests' business."""
        return None


class _GuardedAdapter(HTTPAdapter):
    """Gives direct connections to the guard; connections to a proxy go to where the user pointed them."""

    def __init__(self, local: threading.local) -> None:
        self._guard = local
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools with connection classes that check their peer."""
        super().init_poolmanager(*args, **kwargs)  # type: ignore[no-untyped-call]
        guard = {"guard": self._guard}
        plain = type("GuardedHTTP", (_Guarded, HTTPConnection), guard)
        secure = type("GuardedHTTPS", (_Guarded, HTTPSConnection), guard)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("PlainPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("SecurePool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }


class _Guarded:
    """A connection that refuses a private peer before it sends a byte, and shows its socket to the deadline."""

    guard: threading.local
    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        if not self.guard.private:
            peer = sock.getpeername()[0]
            if not _is_public(peer):
                sock.close()
                raise PrivateAddressError(f"leads to the private address {peer}")
        self.guard.socket = sock
        return sock

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.guard.socket = self.sock

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.guard.socket = self.sock
        super().putrequest(*args, **kwargs)  # type: ignore[misc]


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_global and not parsed.is_multicast


def _refuse_private(host: str, *, resolve: bool) -> None:
    """Raise PrivateAddressError for a name that leads to a private address; a name that leads nowhere passes."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=0 if resolve else socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        if host == "localhost" or host.endswith(".localhost"):
            raise PrivateAddressError(f"{host} is this machine") from None
        return
    for *_, address in found:
        if not _is_public(str(address[0])):
            raise PrivateAddressError(f"{host} leads to the private address {address[0]}")


def _read(
    response: requests.Response,
    deadline: Deadline,
    max_bytes: int,
    types: frozenset[str] | None,
    cut: bool,
    sink: Sink | None,
) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    answer = Answer(response.status_code, headers)
    if response.status_code // 100 != 2:
        return answer
    kind = media_type(headers.get("content-type"))
    if types is not None and kind and kind not in types:
        return Answer(answer.status, headers, failure="content_type", reason=f"content type {_printable(kind)}")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        return Answer(answer.status, headers, failure="undecodable", reason=f"content encoding {_printable(encoding)}")
    with contextlib.nullcontext(io.BytesIO()) if sink is None else sink(answer.status, headers) as body:
        read = _read_body(response, deadline, max_bytes, _Inflate(encoding), body, cut)
        whole = body.getvalue() if isinstance(body, io.BytesIO) else b""
    return Answer(answer.status, headers, b"" if read.failure else whole, read.failure, read.reason, read.size)


def _read_body(
    response: requests.Response, deadline: Deadline, max_bytes: int, inflate: _Inflate, body: BinaryIO, cut: bool
) -> Answer:
    """Write the body; gives its size, or why it is not whole."""
    size = received = 0
    while piece := _piece(response, deadline):
        received += len(piece)
        try:
            plain = inflate.feed(piece, max_bytes + 1 - size)
        except zlib.error as error:
            return Answer(failure="undecodable", reason=f"broken {inflate.encoding} stream: {error}")
        body.write(plain[: max_bytes - size])
        size += len(plain)
        if size > max_bytes:
            return (
                Answer(size=max_bytes) if cut else Answer(failure="too_large", reason=f"more than {max_bytes:,} bytes")
            )
    headers = response.headers
    length = headers.get("Content-Length", "")
    if length.isdigit() and "Transfer-Encoding" not in headers and received < int(length):
        return Answer(failure="truncated", reason=f"{received:,} of {int(length):,} bytes came")
    if received and not inflate.complete:
        return Answer(failure="truncated", reason=f"the {inflate.encoding} stream breaks off")
    return Answer(size=size)


def _piece(response: requests.Response, deadline: Deadline) -> bytes:
    piece: bytes = response.raw.read1(PIECE, decode_content=False)
    if deadline.passed:
        raise TimeoutError
    return piece


class _Inflate:
    """Undoes a content encoding, giving no more bytes than asked for."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._stream: Any = None
        self._ended = False

    @property
    def complete(self) -> bool:
        """Whether the stream has come to its end (always true without compression)."""
        return self._stream is None or self._ended

    def feed(self, data: bytes, limit: int) -> bytes:
        if self.encoding in ("identity", ""):
            return data
        if self._stream is None:
            # Some servers send raw deflate where RFC 9110 wants zlib: the first byte tells (RFC 1950, CM = 8).
            raw = self.encoding == "deflate" and data[0] & 0x0F != 8
            self._stream = zlib.decompressobj(-15 if raw else 15 if self.encoding == "deflate" else 31)
        out = bytearray()
        while data and not self._ended and len(out) < limit:
            out += self._stream.decompress(data, limit - len(out))
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data = self._stream.unused_data
                if self.encoding != "deflate" and data[:2] == b"\x1f\x8b":
                    self._stream = zlib.decompressobj(31)
                else:
                    self._ended = True
        return bytes(out)


def _failure(error: Exception) -> Answer:
    """Name what went wrong on the wire."""
    causes = list(_chain(error))
    system = [cause for cause in causes if isinstance(cause, OSError) and cause.errno]
    text = _short(system[-1] if system else causes[-1])
    # urllib3's error for a refused connection is, for old times' sake, also a timeout.
    refused = any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes)
    if isinstance(error, requests.exceptions.SSLError):
        return Answer(failure="tls_error", reason=text)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Answer(failure="unreachable", reason="no connection in time")
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if not refused and any(isinstance(cause, timeouts) for cause in causes):
        return Answer(failure="timeout", reason="silent for too long")
    if any(isinstance(cause, (http.client.IncompleteRead, urllib3.exceptions.IncompleteRead)) for cause in causes):
        return Answer(failure="truncated", reason="the body breaks off")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError)):
        return Answer(failure="bad_url", reason=text)
    return Answer(failure="unreachable", reason=text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    queue: list[BaseException] = [error]
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        queue += [value for value in current.args if isinstance(value, BaseException)]
        queue += [
            value
            for value in (getattr(current, "reason", None), current.__cause__, current.__context__)
            if isinstance(value, BaseException)
        ]


def _short(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno) if error.errno > 0 else str(error.args[-1])
    return _printable(str(error)) or type(error).__name__


def _printable(text: str) -> str:
    """One short line without control characters: what a server says may end up on a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:200]
