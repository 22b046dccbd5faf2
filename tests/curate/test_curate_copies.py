"""Which of the texts with equal words stands for the others, against a dictionary; in however many slices."""

import random

import numpy as np
import pyarrow as pa
import pytest

from lmcore.curate import copies as room
from lmcore.curate.bands import write_bands
from lmcore.curate.copies import one_of_copies
from lmcore.curate.measure import bands_file
from lmcore.curate.minhash import BANDS
from storage.errors import RunError
from storage.parquet import write_parquet


def write(folder, hashes):
    path = folder / "measured" / "00000.parquet"
    write_parquet(path, pa.table({"words_hash": hashes}))
    write_bands(bands_file(path), hashes, np.zeros((len(hashes), BANDS), np.uint32))
    return path


def by_hand(files):
    seen = set()
    for hashes in files:
        last = {digest: place for place, digest in enumerate(hashes)}
        yield from (digest not in seen and last[digest] == place for place, digest in enumerate(hashes))
        seen |= last.keys()


@pytest.mark.parametrize("together", [2_000_000, 40, 1])
def test_the_last_of_the_earliest_file_is_taken(tmp_path, monkeypatch, seed, together):
    monkeypatch.setattr(room, "_SLICE", together)
    pick = random.Random(seed)
    different = [f"{pick.randrange(2**128):032x}" for _ in range(50)] + ["0" * 32, "0" * 31 + "1", "f" * 32]
    files = [pick.choices(different, k=size) for size in (30, 0, 1, 60)]
    paths = [write(tmp_path / str(number), hashes) for number, hashes in enumerate(files)]
    assert one_of_copies(paths).tolist() == list(by_hand(files))


def test_without_files_nobody_is_taken(tmp_path):
    assert not len(one_of_copies([]))
    path = write(tmp_path, ["0" * 32])
    bands_file(path).write_bytes(b"no table")
    with pytest.raises(RunError, match="bands"):
        one_of_copies([path])
