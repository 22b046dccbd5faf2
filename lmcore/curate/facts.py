"""What a corpus tells of a text beside its words and figures, as one number: has anything changed since last time?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

FACTS = ("title", "kind", "lang", "license", "synthetic", "page_of_origin")
"""The columns of MEASURED and CURATED that are looked at; source and URL are in the record id already."""


def facts(table: pa.Table) -> NDArray[np.uint64]:
    """xxh3-64 of what stands in FACTS, for each of N rows."""
    columns = [table[name].cast(pa.string()) for name in FACTS]
    joined = pc.binary_join_element_wise(*columns, "\0", null_handling="replace", null_replacement="\1")
    values = (xxhash.xxh3_64_intdigest(text.encode()) for text in joined.to_pylist())
    return np.fromiter(values, np.uint64, table.num_rows)
