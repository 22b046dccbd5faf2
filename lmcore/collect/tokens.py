"""Tokens for servers that want one: which host is told which, and that nothing else ever sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lmcore.collect.links import is_local, site_of, tidy_url
from storage.errors import UserError
from storage.redact import BLANK

if TYPE_CHECKING:
    from lmcore.collect.http import Response

_TOKEN = re.compile(r"[\x21-\x7e]{4,4096}")  # what may follow "Bearer "; requests would quote any other in its error


class Tokens:
    """Tokens by host: `huggingface.co`, or `host:port` where the port is not the usual one. Never printed."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._by_site = {_site(host): token for host, token in tokens.items()}
        for host, token in tokens.items():
            if not _TOKEN.fullmatch(token):
                raise UserError(
                    f"the token for {host} cannot be one: it is too short, or has spaces or other characters in it",
                    "set it again, without quotes or line breaks",
                )

    def __repr__(self) -> str:
        return f"Tokens({', '.join(sorted(self._by_site))})"

    def __bool__(self) -> bool:
        return bool(self._by_site)

    def headers(self, url: str) -> dict[str, str]:
        """For a request to this URL; nothing for other hosts, and nothing that would cross a public net in the open."""
        token = self._by_site.get(site_of(url))
        if token is None or not (urlsplit(url).scheme == "https" or is_local(url)):
            return {}
        return {"Authorization": f"Bearer {token}"}

    def blanked(self, response: Response) -> Response:
        """An answer without the tokens, should the server have repeated one where it would be kept."""
        if not self:
            return response
        response = replace(
            response,
            final_url=self._blank(response.final_url),
            reason=self._blank(response.reason),
            content_type=self._blank(response.content_type),
            robots_tag=self._blank(response.robots_tag),
            etag=self._blank(response.etag),
            last_modified=self._blank(response.last_modified),
        )
        if any(token.encode() in response.body for token in self._by_site.values()):
            return replace(response, outcome="token_repeated", reason="it holds the token", body=b"", size=0)
        return response

    def _blank(self, text: str) -> str:
        for token in self._by_site.values():
            text = text.replace(token, BLANK)
        return text


def _site(host: str) -> str:
    url = tidy_url(f"https://{host}/")
    if url is None or urlsplit(url).path != "/":
        raise UserError(f"{host!r} in `tokens` is no host", "write it as huggingface.co or localhost:8080")
    return site_of(url)


NO_TOKENS = Tokens({})
