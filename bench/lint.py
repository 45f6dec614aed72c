"""Labels the lint corpus by what a real Citus and PgBouncer do, and measures the rules against the labels.

    uv run --extra lab python bench/lint.py            # measures; needs no cluster
    uv run --extra lab python bench/lint.py --label    # asks the engine again (a lab of its own, about two minutes)

Writes results/lint.json: for each rule how many findings are right (precision) and how many labels are found (recall).
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from orchestrator.lab import manager
from orchestrator.lab.home import LabHome
from tests.lint.live import label
from tests.lint.measure import measure
from tests.lint.place import CORPUS, Place, clean, corpus, prepare

RESULTS = Path(__file__).parent / "results" / "lint.json"
SERVER = {"subscription_id": "s", "resource_group": "lab", "name": "lint", "database": "citus", "host": "127.0.0.1"}


def label_all() -> None:
    base = Path(tempfile.mkdtemp(prefix="orchestrator-lint-", dir="/var/tmp"))
    base.chmod(0o711)
    home = LabHome.of(Path.cwd(), "lint", base)
    running = manager.up(
        home, "native", 2, database="citus", admin_login="clusteradmin", server=SERVER, progress=lambda _: None
    )
    try:
        place = place_of(home, running.direct, running.pooled or 0)
        prepare(place)
        entries = corpus()
        for entry in entries:
            try:
                entry["rules"], entry["engine"] = label(place, entry)
            except Exception as error:
                raise SystemExit(f"{entry['probe']}: {entry['sql']}: {error!r}") from error
        (CORPUS / "corpus.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", "utf-8")
        clean(place)
    finally:
        manager.down(home, delete=True, progress=lambda _: None)
        shutil.rmtree(base, ignore_errors=True)


def place_of(home: LabHome, direct: int, pooled: int) -> Place:
    record = home.read()
    place = Place(direct, pooled, 0, record.database, record.admin_login, record.admin_password)
    with place.connect(direct) as admin:
        worker = admin.execute("SELECT nodeport FROM pg_dist_node WHERE groupid <> 0 LIMIT 1").fetchone()[0]
    return Place(direct, pooled, worker, record.database, record.admin_login, record.admin_password)


if __name__ == "__main__":
    if "--label" in sys.argv:
        label_all()
    result = measure(corpus())
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "wrong"}, indent=2))
    for miss in result["wrong"]:
        print(miss)
