"""The verb that advises: reads, parses, decides, shows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from orchestrator.cli.advise.answers import read_answers
from orchestrator.cli.preview.verbs import chosen_prices
from orchestrator.cli.running import print_json
from orchestrator.cli.stack import stackfile
from orchestrator.clients.advice.advice import AdviceReader
from orchestrator.clients.advice.advice_login import login_of, open_login
from orchestrator.clients.cluster.connection import Login, administrator
from orchestrator.core.advice.advice import advise
from orchestrator.core.advice.answers import Answers, questionnaire
from orchestrator.core.advice.facts import Database
from orchestrator.core.advice.rates import between, since_start
from orchestrator.core.errors import Refused
from orchestrator.driver import drive
from orchestrator.lint.usage import usages
from orchestrator.workflow.waiting import waited


def print_questionnaire() -> None:
    click.echo(questionnaire(), nl=False)


def show_advice(
    root: Path,
    url: str | None,
    from_environment: bool,
    stack: str | None,
    answers: Path | None,
    watch: float | None,
    nodes: int | None,
    prices: Path | None,
    form: str | None,
) -> int:
    answered = read_answers(answers) if answers else Answers()
    price_list = chosen_prices(prices, None)
    login = login_to(root, url, from_environment, stack)
    if login is None and answers is None:
        raise Refused(
            "Nothing to read: give --url postgresql://role@host/database, or --answers FILE (an empty questionnaire "
            "comes from `orchestrator advise --questionnaire`)."
        )
    if login is None and watch is not None:
        raise Refused("--watch needs a database to watch: add --url.")
    database = read_database(login, watch) if login else None
    report = advise(database, answered, price_list, nodes)
    if form == "json":
        from orchestrator.cli.advise.document import report_json

        print_json(report_json(report))
        return 0
    from orchestrator.cli.advise.views import markdown_page, text_page

    click.echo(markdown_page(report) if form == "markdown" else text_page(report), nl=False)
    return 0


def login_to(root: Path, url: str | None, from_environment: bool, stack: str | None) -> Login | None:
    if stack is not None:
        if url is not None and not from_environment:
            raise Refused("--url and --stack exclude each other: each names the database to read.")
        return administrator(stackfile.load(root, stack).spec, root)
    return login_of(url, from_environment) if url is not None else None


def read_database(login: Login, watch: float | None) -> Database:
    """All that is to be known of it. With `watch` the load is that of so many seconds."""
    with closing(open_login(login)) as connection:
        reader = AdviceReader(connection)
        seen = reader.read()
        database = replace(seen.database, usages=usages(seen.recorded, seen.database.tables))
        load = since_start(seen.counters, database.tables, database.load)
        if watch is not None:
            click.echo(f"Watching for {watch:.0f} s.", err=True)
            first = reader.counters(seen.standby)
            drive(waited(watch, "the load is watched"), lambda _: None)
            load = between(first, reader.counters(seen.standby), load)
    return replace(database, load=load)
