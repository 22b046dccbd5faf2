import random
import signal
import threading

import pytest
from store_made import start

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
    assert done.wait(5), "a dead process holds the lock"
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
