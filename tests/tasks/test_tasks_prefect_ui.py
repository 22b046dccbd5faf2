"""A Prefect server that does not answer costs a line, not the work."""

import socket
import time

import httpx
import pytest
from prefect.exceptions import ObjectNotFound

from tasks import prefect_ui
from tasks.prefect_ui import ProgressArtifact, to_prefect


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(prefect_ui, "_told", False)
    monkeypatch.setattr(prefect_ui, "_silent_until", 0.0)


@pytest.fixture
def nobody():
    """A call to a port where nobody listens, and the calls that were made."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    calls = []

    def call():
        calls.append(time.monotonic())
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)

    return call, calls


def test_a_server_that_is_gone_is_told_once_and_left_alone(nobody, monkeypatch):
    call, calls = nobody
    told = []
    for _ in range(3):
        to_prefect(call, told.append)
    assert len(calls) == 1, "and then not for a minute"
    (line,) = told
    assert line.startswith("the Prefect server does not answer (")
    assert "the work goes on" in line
    monkeypatch.setattr(prefect_ui, "_silent_until", 0.0)
    to_prefect(call, told.append)
    assert (len(calls), len(told)) == (2, 1)


def test_a_server_that_lost_its_database_is_no_failure_either():
    def call():
        raise ObjectNotFound(http_exc=Exception("404"))

    told = []
    to_prefect(call, told.append)
    assert len(told) == 1


def test_a_fault_of_ours_is_not_taken_for_the_servers():
    def call():
        raise KeyError("ours")

    with pytest.raises(KeyError):
        to_prefect(call, lambda _: None)


def test_an_answer_changes_nothing():
    answers = []
    to_prefect(lambda: answers.append(1), answers.append)
    to_prefect(lambda: answers.append(2), answers.append)
    assert answers == [1, 2]


def test_nothing_is_sent_outside_a_task():
    told = []
    ProgressArtifact("collect [site] A", told.append).update(50.0, "half")
    assert told == []
