"""What does verification cost? The same moves with `--verify off` and as by default, in turn, on real Citus.

    uv run --all-extras python bench/verify.py [--small] [--only many tiny large]

`many`: 1,000 schemas of one small table, `tiny`: 120 of them, `large`: few of some 100 MB each; two nodes become four,
and the same shard groups are moved there and back again (`rebalance --undo`), each way as often without verification as
with it: off, default, default, off. The time is that of the whole step of the moves: both copies of each group
compared, sequences and probe writes. The comparison of all nodes' structure at the end is made in either case and told
beside it. Seconds of the processors (all servers and the command) are told too: other work on the machine changes those
less. Writes bench/results/verify.json. Cleans up after itself; under twelve minutes (`--small`: under one, on a machine
of its own).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moves import load
from overhead import Lab

RESULTS = Path(__file__).parent / "results" / "verify.json"
MB = 2**20
# There, back, there, back: each way once without and once with.
ORDER = ("off", "quick", "quick", "off")
FULL = {"many": ([0] * 1000, 2), "tiny": ([0] * 120, 2), "large": ([100 * MB] * 12, 2)}
SMALL = {"many": ([0] * 48, 1), "tiny": ([0] * 24, 1), "large": ([20 * MB] * 8, 1)}
# Milliseconds for which writes may be held: the default, and more where a busy machine would make moves twice.
PAUSE = {"many": 2000, "tiny": 2000, "large": 500}


def processor_seconds(lab: Lab) -> float:
    """Of all servers so far, and of the commands that have ended."""
    servers = {path.read_text("utf-8").split()[0] for path in lab.folder.glob("**/native/node*/**/postmaster.pid")}
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()
            own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
            ticks += own + ended if folder.name in servers else own if fields[1] in servers else 0
    commands = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ticks / os.sysconf("SC_CLK_TCK") + commands.ru_utime + commands.ru_stime


def moved(lab: Lab, verify: str, back: bool, pause: int) -> dict[str, Any]:
    """One block: all moves there, or all of them back."""
    arguments = ["rebalance", "--yes", "--json", "--verify", verify, "--max-write-pause", str(pause)]
    if back:
        arguments += ["--undo", str(json.loads(lab.run("runs", "--json"))[0]["run"])]
    else:
        arguments += ["--moves", "direct"]
    before = processor_seconds(lab)
    report = json.loads(lab.run(*arguments))
    used = processor_seconds(lab) - before
    step = next(step for step in report["steps"] if "direct move" in step["title"])
    return {
        "verify": verify,
        "way": "back" if back else "there",
        "moves": len(report["moves"]),
        "seconds": step["seconds"],
        "processor_seconds": round(used, 2),
        "longest_write_pause_ms": max(round(1000 * (move["write_pause_seconds"] or 0)) for move in report["moves"]),
        "note": step["note"],
        "parts": {check["mode"]: check["seconds"] for check in report["verification"]},
    }


def measure(folder: Path, sizes: Sequence[int], rounds: int, pause: int) -> dict[str, Any]:
    os.environ["ORCHESTRATOR_LAB_HOME"] = str(folder / "labs")
    lab = Lab(folder, "native", 2)
    try:
        load(lab, "s", sizes)
        lab.run("scale-out", "--nodes", "4", "--no-rebalance", "--yes")
        # The first moves of a cluster are those of cold caches.
        for back in (False, True):
            moved(lab, "off", back, pause)
        blocks = []
        for _ in range(rounds):
            for place, verify in enumerate(ORDER):
                blocks.append(moved(lab, verify, place % 2 == 1, pause))
                print(json.dumps(blocks[-1]), flush=True)
    finally:
        lab.run("lab", "down", "--delete")
    seconds, used = both(blocks, "seconds"), both(blocks, "processor_seconds")
    structure = statistics.median(block["parts"]["structure"] for block in blocks)
    return {
        "groups": len(sizes),
        "bytes_each": sizes[0],
        "moves_in_a_block": blocks[0]["moves"],
        "seconds_off_and_default": seconds,
        "share_of_the_move_time": round(sum(seconds[1]) / sum(seconds[0]) - 1, 3),
        "share_by_medians": round(statistics.median(seconds[1]) / statistics.median(seconds[0]) - 1, 3),
        "processor_seconds_off_and_default": used,
        "share_of_the_processor_time": round(sum(used[1]) / sum(used[0]) - 1, 3),
        "structure_seconds": structure,
        "blocks": blocks,
    }


def both(blocks: Sequence[dict[str, Any]], what: str) -> list[list[float]]:
    """Of the blocks without verification, and of those with it."""
    return [[block[what] for block in blocks if block["verify"] == verify] for verify in ("off", "quick")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a try of the script itself; writes no result")
    parser.add_argument("--only", nargs="*", choices=list(FULL), default=list(FULL))
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for kind in options.only:
        sizes, rounds = (SMALL if options.small else FULL)[kind]
        with tempfile.TemporaryDirectory(prefix="orchestrator-verify-", dir="/var/tmp") as name:
            path = Path(name)
            path.chmod(0o711)
            known[kind] = measure(path, sizes, rounds, PAUSE[kind]) | {
                "load_average": round(os.getloadavg()[1], 1),
                "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        known["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {sys.version.split()[0]}"
        known["command"] = "uv run --all-extras python bench/verify.py"
        print(
            json.dumps({name: value for name, value in known[kind].items() if name != "blocks"}, indent=1), flush=True
        )
        if not options.small:
            RESULTS.write_text(json.dumps(known, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
