"""Limits on a host that several collections share through Prefect's server."""

import threading
import time

import pytest
from frozen_site import FrozenSite, Reply

WORDS = "A page of the site with quite enough words to be a record. " * 5


class Counting:
    """Pages that say how many were asked for at the same time."""

    def __init__(self, together):
        """`together`: an answer comes when two were asked for at once, so that no machine is too slow for it."""
        self.now = self.most = 0
        self.together = together
        self.lock = threading.Condition()

    def reply(self, name):
        def act(handler):
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
                self.lock.notify_all()
                if self.together:
                    self.lock.wait_for(lambda: self.most > 1, 20)
            time.sleep(0.1)
            with self.lock:
                self.now -= 1
            body = f"<html><p>{WORDS} {name}</p></html>".encode()
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        return Reply(act=act)


@pytest.mark.parametrize("limited", [True, False])
def test_two_collections_share_the_limit_of_a_host(prefect_server, tmp_path, limited):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    from lmcore.collect.params import CollectRuntime, WebSource
    from storage.store import Store
    from tasks.collect import CollectParams, collect

    counting = Counting(together=not limited)
    pages = {f"/{side}{number}": counting.reply(f"{side}{number}") for side in "ab" for number in range(6)}
    with get_client(sync_client=True) as client, FrozenSite(pages={"/robots.txt": Reply(404), **pages}) as site:
        if limited:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="host-127.0.0.1", limit=1))

        @flow
        def both():
            futures = []
            for side in "ab":
                seeds = tuple(f"{site.url}/{side}{number}" for number in range(6))
                source = WebSource(name=side, seeds=seeds, delay=0, min_chars=10)
                params = CollectParams(source=source, edition="e")
                futures.append(collect.submit(Store(tmp_path), [], [], params=params, runtime=CollectRuntime()))
            return [future.result().metrics["records"] for future in futures]

        try:
            assert both() == [6, 6]
        finally:
            if limited:
                client.delete_global_concurrency_limit_by_name("host-127.0.0.1")
    assert counting.most == 1 if limited else counting.most > 1
