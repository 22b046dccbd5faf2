import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import RunError, UserError
from storage.registry import Registry, RegistryMoved, ReleaseWithdrawn

ROOT = Path(__file__).parents[2]


def record(registry, name, mark):
    return registry.record(
        name,
        release_key=f"r{mark}",
        digest=f"d{mark}",
        model_key=f"m{mark}",
        model_digest=f"md{mark}",
        export_key=None,
        bits_per_byte=2.0 - mark / 10,
        reason=f"better {mark}",
    )


@pytest.fixture
def registry(tmp_path):
    """Three releases, promoted one after the other."""
    registry = Registry(tmp_path)
    for mark in (1, 2, 3):
        record(registry, "quickstart", mark)
        registry.promote("quickstart", mark, expected=mark - 1 or None)
    return registry


def child(code, root, fault="", wait=True, **values):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLLECT_TRAIN_FAULT": fault}
    program = f"from storage.registry import *\nregistry = Registry({str(root)!r})\n{code.format(**values)}"
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True)
    return (process.wait(60), process.stderr.read()) if wait else process


def test_the_file_is_as_documented(registry):
    state = json.loads((registry.root / "registry" / "quickstart.json").read_text())
    assert (state["format"], state["version"], state["champion"], state["withdrawn"]) == (1, 6, 3, [])
    assert [release["number"] for release in state["releases"]] == [1, 2, 3]
    assert [move["champion"] for move in state["history"]] == [1, 2, 3]
    release = registry.champion("quickstart")
    assert release.model_path(registry.root) == registry.root / "train" / "m3"


def test_recording_twice_gives_the_same_release(registry):
    before = registry.read("quickstart")
    assert record(registry, "quickstart", 2).number == 2
    assert registry.read("quickstart") == before


def test_a_new_release_is_promoted_by_nobody(tmp_path):
    registry = Registry(tmp_path)
    assert registry.champion("new") is None
    assert not record(registry, "new", 1).promoted
    assert registry.champion("new") is None
    with pytest.raises(UserError, match="none was promoted"):
        registry.resolve("new")
    assert registry.resolve("new@1").number == 1


def test_promotion_compares_and_swaps(registry):
    four = record(registry, "quickstart", 4)
    with pytest.raises(RegistryMoved, match="is release 3, not release 2"):
        registry.promote("quickstart", four.number, expected=2)
    with pytest.raises(RegistryMoved, match="not none"):
        registry.promote("quickstart", four.number, expected=None)
    assert registry.champion("quickstart").number == 3
    assert registry.promote("quickstart", 4, expected=3, why="lower").promoted
    version = registry.read("quickstart").version
    assert registry.promote("quickstart", 4, expected=3).number == 4  # a rerun of the run that did it
    assert registry.read("quickstart").version == version
    with pytest.raises(UserError, match="no release quickstart@9"):
        registry.promote("quickstart", 9, expected=4)


def test_rollback_goes_back_and_withdraws(registry):
    assert registry.rollback("quickstart", why="bad answers").number == 2
    state = registry.read("quickstart")
    assert (state.champion, state.withdrawn, state.history[-1].why) == (2, (3,), "bad answers")
    with pytest.raises(ReleaseWithdrawn, match="rolled back"):
        registry.promote("quickstart", 3, expected=2)
    assert registry.rollback("quickstart", why="also").number == 1
    assert registry.read("quickstart").withdrawn == (2, 3)
    with pytest.raises(UserError, match="no earlier champion"):
        registry.rollback("quickstart", why="more")


def test_a_rolled_back_model_does_not_come_back_under_another_number(registry):
    registry.rollback("quickstart", to=1, why="bad answers")
    again = registry.record(
        "quickstart", release_key="r4", digest="d4", model_key="m3", model_digest="md3", export_key=None,
        bits_per_byte=1.7, reason="judged anew",
    )  # fmt: skip
    with pytest.raises(ReleaseWithdrawn, match="rolled back"):
        registry.promote("quickstart", again.number, expected=1)


def test_an_explicit_rollback_brings_a_withdrawn_release_back(registry):
    registry.rollback("quickstart", to=1, why="far")
    assert registry.read("quickstart").withdrawn == (2, 3)
    assert registry.rollback("quickstart", to=3, why="it was good").number == 3
    state = registry.read("quickstart")
    assert (state.champion, state.withdrawn) == (3, (2,))
    assert registry.rollback("quickstart", why="or not").number == 1  # 2 stays withdrawn


def test_rollback_follows_the_order_of_promotion_not_of_numbers(tmp_path):
    registry = Registry(tmp_path)
    for mark in (1, 2):
        record(registry, "n", mark)
    registry.promote("n", 2, expected=None)
    registry.promote("n", 1, expected=2)
    assert registry.rollback("n", why="w").number == 2
    assert registry.read("n").withdrawn == (1,)


def test_only_a_former_champion_can_be_rolled_back_to(registry):
    record(registry, "quickstart", 4)
    with pytest.raises(UserError, match="never promoted"):
        registry.rollback("quickstart", to=4, why="w")
    with pytest.raises(UserError, match="no release quickstart@7"):
        registry.rollback("quickstart", to=7, why="w")
    version = registry.read("quickstart").version
    assert registry.rollback("quickstart", to=3, why="is champion").number == 3
    assert registry.read("quickstart").version == version


def test_resolve_and_its_errors(registry):
    assert registry.resolve("quickstart").number == 3
    assert registry.resolve("quickstart@2").model_key == "m2"
    record(registry, "nightly", 1)
    assert registry.names() == ["nightly", "quickstart"]
    with pytest.raises(UserError, match=r"did you mean quickstart\? releases exist of: nightly, quickstart"):
        registry.resolve("quikstart")
    with pytest.raises(UserError, match="the releases of quickstart are: 1, 2, 3"):
        registry.resolve("quickstart@4")
    for bad in ("quickstart@", "quickstart@x", "quickstart@-1", "quickstart@²", "quickstart@2@3"):
        with pytest.raises(UserError):
            registry.resolve(bad)


def test_no_release_at_all(tmp_path):
    registry = Registry(tmp_path / "nowhere")
    assert registry.names() == []
    with pytest.raises(UserError, match="run a recipe to its end first"):
        registry.rollback("quickstart", why="w")
    assert not (tmp_path / "nowhere" / "registry").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/x", ".hidden", "a\0b", "a\n", "x" * 101, "-x", "ä"]
)
def test_names_with_path_tricks_are_refused(tmp_path, name):
    registry = Registry(tmp_path)
    for call in (registry.read, registry.champion, registry.resolve, lambda n: record(registry, n, 1)):
        with pytest.raises(UserError, match="cannot be the name"):
            call(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1, "champion": "x"}', '{"format": 2}', '{"more": 1}', "\udc80"]
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "q.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=r"registry/q\.json"):
        Registry(tmp_path).read("q")


def test_exactly_one_of_many_processes_wins(registry):
    for mark in range(4, 12):
        record(registry, "quickstart", mark)
    code = "import sys\ntry: registry.promote('quickstart', {n}, expected=3)\nexcept RegistryMoved: sys.exit(7)"
    processes = [child(code, registry.root, wait=False, n=n) for n in range(4, 12)]
    codes = [process.wait(60) for process in processes]
    assert sorted(codes) == [0] + [7] * 7, [p.stderr.read() for p in processes]
    state = registry.read("quickstart")
    assert state.champion == 4 + codes.index(0)
    assert len(state.history) == 4
    assert state.version == 6 + 8 + 1


def test_recording_at_once_loses_nothing(tmp_path):
    code = (
        "for i in range(5): registry.record('q', release_key='r', digest=f'{n}-{{i}}', model_key='m',"
        " model_digest='x', export_key=None, bits_per_byte=None, reason='')"
    )
    processes = [child(code, tmp_path, wait=False, n=n) for n in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    state = Registry(tmp_path).read("q")
    assert [release.number for release in state.releases] == list(range(1, 16))
    assert len({release.digest for release in state.releases}) == 15


@pytest.mark.parametrize(
    ("point", "champion"),
    [("registry.before-write", 3), ("atomic.write.before-rename", 3), ("registry.after-write", 4)],
)
def test_a_kill_leaves_the_old_registry_or_the_new(registry, point, champion):
    record(registry, "quickstart", 4)
    code, _ = child("registry.promote('quickstart', 4, expected=3)", registry.root, fault=point)
    assert code == -signal.SIGKILL
    assert registry.champion("quickstart").number == champion
    assert registry.promote("quickstart", 4, expected=3).number == 4  # the rerun
    assert [move.champion for move in registry.read("quickstart").history] == [1, 2, 3, 4]
    assert registry.names() == ["quickstart"]


def test_a_full_disk_says_where(registry, monkeypatch):
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "atomic.write.before-rename=enospc")
    with pytest.raises(RunError, match="disk full"):
        record(registry, "quickstart", 4)
    assert len(registry.read("quickstart").releases) == 3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("promote"), st.integers(1, 4)), st.tuples(st.just("back"), st.none() | st.integers(1, 4))
        )
    )
)
def test_the_champion_is_never_withdrawn_whatever_happens(tmp_path_factory, moves):
    registry = Registry(tmp_path_factory.mktemp("r"))
    for mark in range(1, 5):
        record(registry, "q", mark)
    for kind, number in moves:
        state = registry.read("q")
        try:
            if kind == "promote":
                registry.promote("q", number, expected=state.champion)
            else:
                registry.rollback("q", number, why="w")
        except (UserError, ReleaseWithdrawn):
            assert registry.read("q") == state
        state = registry.read("q")
        assert state.champion not in state.withdrawn
        assert state.champion is None or state.release(state.champion).promoted
        assert state.champion == (state.history[-1].champion if state.history else None)
