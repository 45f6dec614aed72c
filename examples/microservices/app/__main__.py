"""Runs one service: `python -m app SERVICE CONFIG PORT`, CONFIG as `orchestrator connection` prints it in JSON."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from .database import Database
from .services import SERVICES


def main(service: str, config: str, port: str) -> None:
    database = Database(Path(config))
    try:
        uvicorn.run(SERVICES[service](database), host="127.0.0.1", port=int(port), log_level="warning")
    finally:
        database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
