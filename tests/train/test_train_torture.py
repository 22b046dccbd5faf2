"""SIGKILL at random times under every option of training (`make torture`): the bytes of an undisturbed run remain.

Times are drawn over the whole life of a process: its start, its steps, its checkpoints and the writing of what it
leaves. KILLS kills each (default 3); SEED repeats an earlier torture.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest
from test_train_kills import FEATURES, pair

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("feature", FEATURES)
def test_killed_at_random_times_it_ends_with_the_same_bytes(job, trainer, content, feature):
    draw = random.Random(f"{SEED} {feature}")
    print(f"\nSEED={SEED} {feature}: ", end="")
    straight, killed = pair(job, feature, steps=200)
    began = time.monotonic()
    done = trainer(straight)
    assert done.returncode == 0, done.err
    life = time.monotonic() - began
    kills = 0
    while kills < KILLS:
        process = trainer(killed, wait=False)
        after = draw.uniform(0.3, 1.0) * life
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        print(f"{after:.1f} s, ", end="")
    assert trainer(killed).returncode == 0
    assert content(killed) == content(straight)
    print(f"{kills} kills, equal")
