"""The three services: a Starlette application for each. A request waits while the database fails over."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .database import Database
from .reach import Refused, public_address, reach


def user(database: Database) -> Starlette:
    async def add(request: Request) -> JSONResponse:
        try:
            body: Any = await request.json()
            name, email = str(body["name"])[:255], str(body["email"])[:255]
        except (json.JSONDecodeError, KeyError, TypeError):
            return JSONResponse({"error": "name and email are needed"}, 400)
        statement = "INSERT INTO users (name, email) VALUES (%s, %s) RETURNING id"
        row = await run_in_threadpool(database.run, lambda c: c.execute(statement, (name, email)).fetchone())
        return JSONResponse({"id": row[0]}, 201)

    async def count(_: Request) -> JSONResponse:
        rows = await run_in_threadpool(database.run, lambda c: c.execute("SELECT count(*) FROM users").fetchone())
        return JSONResponse({"users": rows[0]})

    return Starlette(routes=[Route("/users", add, methods=["POST"]), Route("/users", count)])


def time(database: Database) -> Starlette:
    async def now(request: Request) -> JSONResponse:
        caller = request.client.host if request.client else "127.0.0.1"
        statement = "INSERT INTO query_details (ip_address, query_time) VALUES (%s, now()) RETURNING query_time"
        row = await run_in_threadpool(database.run, lambda c: c.execute(statement, (caller,)).fetchone())
        return JSONResponse({"time": row[0].isoformat()})

    return Starlette(routes=[Route("/time", now)])


def ping(database: Database) -> Starlette:
    async def one(request: Request) -> JSONResponse:
        host = request.query_params.get("host", "")[:253]
        try:
            address = await run_in_threadpool(public_address, host)
        except Refused as refusal:
            return JSONResponse({"error": str(refusal)}, 403)
        result = await run_in_threadpool(reach, address)
        statement = "INSERT INTO ping_results (host, result) VALUES (%s, %s)"
        await run_in_threadpool(database.run, lambda c: c.execute(statement, (host, result)))
        return JSONResponse({"host": host, "address": str(address), "result": result})

    async def count(_: Request) -> JSONResponse:
        statement = "SELECT count(*) FROM ping_results"
        rows = await run_in_threadpool(database.run, lambda c: c.execute(statement).fetchone())
        return JSONResponse({"pings": rows[0]})

    return Starlette(routes=[Route("/ping", one), Route("/pings", count)])


SERVICES = {"user": user, "time": time, "ping": ping}
