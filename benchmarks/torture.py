"""Kill -9 whole runs at random times over all stages, let them finish, compare content digests.

    python benchmarks/torture.py --kills 50 --seed 7

One undisturbed run of the tests' tiny recipe on the frozen site gives the digests and the pace. Then stores are
built afresh, each killed a few times in stages drawn at random, at random times of them, until so many kills are
done. Every third run or so is killed together with a Prefect server of its own. Exit code 1 when a finished store
differs in any stage, keeps unfinished work, or a killed run leaves a process behind.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "flows")]

from helpers_flows import (  # noqa: E402
    collect,
    digests,
    frozen_site,
    prefect_server,
    unfinished,
    web_source,
    write_recipe,
)
from helpers_kill import pace, plan_of_kills, run_to_a_random_kill  # noqa: E402

KILLS_PER_STORE = 5
OWN_SERVER = 0.3  # share of the runs that start their own Prefect server


def torture(folder: Path, kills: int, seed: int) -> int:
    """Kill `kills` runs; gives the number of stores that came out different."""
    draw = random.Random(seed)
    struck: Counter[str] = Counter()
    wrong = stores = 0
    with frozen_site() as site, prefect_server(folder / "prefect") as url:
        shared = {"PREFECT_API_URL": url}
        recipe = write_recipe(folder, web_source(site.url))
        done = collect("run", recipe, "--edition", "first", store=folder / "undisturbed", env=shared)
        expected, times = digests(folder / "undisturbed"), pace(folder / "undisturbed", done.seconds)
        print(f"an undisturbed run takes {done.seconds:.1f} s", flush=True)
        while struck.total() < kills:
            stores += 1
            store = folder / f"store-{stores}"
            for phase in plan_of_kills(draw, min(KILLS_PER_STORE, kills - struck.total())):
                own = draw.random() < OWN_SERVER
                place = run_to_a_random_kill(recipe, store, phase, times, draw, {} if own else shared)
                struck[place] += bool(place)
                what = f"killed in {place}" if place else f"came to its end before the kill meant for {phase}"
                print(f"{struck.total():4} store {stores}: {what}{', own server' if own else ''}", flush=True)
            collect("run", recipe, "--edition", "first", store=store, env=shared)
            different = sorted(stage for stage, found in digests(store).items() if found != expected[stage])
            left = unfinished(store)
            wrong += bool(different or left)
            verdict = f"DIFFERENT in {', '.join(different)}" if different else "equal in every stage"
            print(f"     store {stores}: {verdict}{f'; LEFT OVER {left}' if left else ''}", flush=True)
            if not different and not left:
                shutil.rmtree(store)
    places = ", ".join(f"{place} {count}" for place, count in sorted(struck.items()) if count)
    print(f"{struck.total()} kills over {stores} stores ({places}): {wrong} came out different")
    return wrong


def main() -> None:
    """Read the arguments, torture, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="repeats an earlier torture")
    arguments = parser.parse_args()
    seed = random.randrange(2**31) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="collect-train-torture-"))
    print(f"{arguments.kills} kills, seed {seed}, in {folder}", flush=True)
    began = time.monotonic()
    wrong = torture(folder, arguments.kills, seed)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    if wrong:
        print(f"the stores are kept in {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
