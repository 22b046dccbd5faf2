"""Encoding a stream of texts on several threads, results in the order of the texts."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from lmcore.tokenizer.cutting import groups
from lmcore.tokenizer.interface import Tokenizer

GROUP = 262_144  # characters handed to a thread at once: a tenth of a second of work


def encode_stream(tokenizer: Tokenizer, texts: Iterable[str], workers: int) -> Iterator[npt.NDArray[np.uint32]]:
    """The ids of each text, in order, by `workers` threads (0: every core this process may use).

    The engine works without Python's lock, so threads are enough. A few groups of texts are in memory at a time.
    """
    count = workers or _cores()
    with ThreadPoolExecutor(count, thread_name_prefix="encode") as pool:
        waiting: deque[Future[list[npt.NDArray[np.uint32]]]] = deque()
        for group in groups(texts, GROUP):
            waiting.append(pool.submit(tokenizer.encode_ids, group))
            if len(waiting) > 2 * count:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
