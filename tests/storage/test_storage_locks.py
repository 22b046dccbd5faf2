import random
import signal
import threading

import pytest
from store_made import start

from storage.locks import Locked, file_lock, holder

KEY = "0123456789abcdef01234567"


HOLD = """
import os, sys, time
from storage.store import Store
with Store(sys.argv[1]).lock("curate", "abc"):
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_over_processes_and_the_kernel_frees_it(store):
    holder = start(HOLD, store.root)
    pid = holder.stdout.readline().strip()
    told, done = [], threading.Event()

    def wait():
        with store.lock("curate", "abc", told.append):
            done.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    with store.lock("curate", "another"), store.lock("tokens", "abc"):
        pass  # other keys are free
    assert not done.wait(0.5), "two builders at once"
    assert told == [pid]
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert done.wait(60), "a dead process holds the lock"
    waiter.join()
    assert told == [pid], "told once"


def test_threads_of_one_process_exclude_each_other_too(store, seed):
    inside, most = 0, 0
    counter = threading.Lock()
    pauses = random.Random(seed)

    def work():
        nonlocal inside, most
        for _ in range(3):
            with store.lock("curate", KEY):
                with counter:
                    inside += 1
                    most = max(most, inside)
                threading.Event().wait(pauses.random() / 200)
                with counter:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_is_freed_when_the_block_fails(store):
    with pytest.raises(KeyError), store.lock("curate", KEY):
        raise KeyError
    with store.lock("curate", KEY, lambda pid: pytest.fail(f"held by {pid}")):
        pass


def test_those_who_share_a_lock_exclude_only_who_wants_it_alone(tmp_path):
    path = tmp_path / "lock"
    with file_lock(path, shared=True), file_lock(path, shared=True, wait=False):
        with pytest.raises(Locked), file_lock(path, wait=False):
            pass
        assert holder(path) is None, "many share it, nobody has it alone"
    with file_lock(path, wait=False), pytest.raises(Locked), file_lock(path, shared=True, wait=False):
        pass
    with file_lock(path, wait=False):
        pass


def test_the_holder_is_named_to_whoever_does_not_wait(store):
    lock = store.root / ".locks" / "curate-abc"
    assert holder(lock) is None
    assert not lock.exists(), "asking leaves nothing behind"
    process = start(HOLD, store.root)
    pid = process.stdout.readline().strip()
    assert holder(lock) == pid
    with pytest.raises(Locked) as error, file_lock(lock, wait=False):
        pass
    assert error.value.holder == pid
    process.kill()
    process.communicate()
    assert holder(lock) is None


def test_builders_keep_out_who_wants_the_store_alone_and_wait_for_it(store):
    with store.in_use(), store.in_use(), pytest.raises(Locked), store.alone():
        pass
    done = threading.Event()

    def build():
        with store.in_use():
            done.set()

    with store.alone():
        builder = threading.Thread(target=build)
        builder.start()
        assert not done.wait(0.5)
    assert done.wait(60)
    builder.join()
