"""`orchestrator connection`: prints how a service connects. Opens no connection, reads a password only when asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import quote

import click

from orchestrator.cli.stack import stackfile
from orchestrator.cli.textfiles import UNUSABLE, reason, write_whole
from orchestrator.clients.services.passwords import Passwords
from orchestrator.core.access import Access, PortName, access, notes
from orchestrator.core.access_formats import document, driver_notes, passfile_line, password_source, write
from orchestrator.core.errors import Problem, Refused


class PasswordNotThere(Refused):
    """A service's password is not where the stack file says that it is, or cannot be kept where it is asked for."""


def show_connection(
    root: Path, stack: str, service: str, port: str, form: str, show_password: bool, passfile: Path | None
) -> None:
    """The connection on stdout, everything else that has to be known on stderr."""
    file = stackfile.load(root, stack)
    found = service_access(root, file, service, cast(PortName, port))
    password = service_password(root, file, service) if show_password or passfile else None
    if passfile is not None and password is not None:
        _keep(passfile.absolute(), found, password)
    named = str(passfile.absolute()) if passfile else None
    shown = password if show_password else None
    if form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(document(found, shown, named), sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(write(found, form, shown, named))
    if form in {"json", "yaml"}:
        return
    if password is None:
        (kind, place), *_ = password_source(found).items()
        where = f"the environment variable {place}" if kind == "env" else place
        click.echo(f"  password: not shown; it lies in {where} (--passfile FILE writes one for libpq)", err=True)
    for note in (*driver_notes(found, form), *notes(found)):
        click.echo(f"  {note}", err=True)


def service_access(root: Path, file: stackfile.StackFile, service: str, port: PortName) -> Access:
    """Raises UnknownService or PortNotOffered. Password files are named from the project's folder."""
    role = next((item.role_name for item in file.spec.services if item.name == service), service)
    kept = root / ".secrets" / file.stack / f"{quote(role, safe=' ')}.password"
    found = access(file.spec, service, port, str(kept))
    if found.password_file is None:
        return found
    return replace(found, password_file=str(root / found.password_file))


def service_password(root: Path, file: stackfile.StackFile, service: str) -> str:
    """Raises PasswordNotThere where it has not been made or cannot be read."""
    declared = next(item for item in file.spec.services if item.name == service)
    found = Passwords(root, file.stack).read(declared.role_name, declared.password)
    if found is None:
        raise PasswordNotThere(f"The password of {service} is not made yet: `orchestrator apply` makes it.")
    if isinstance(found, Problem):
        raise PasswordNotThere(f"{found}.")
    return found


def _keep(path: Path, found: Access, password: str) -> None:
    """Put the entry into a password file of libpq, mode 0600, in the place of an older one for the same login."""
    entry = passfile_line(found, password)
    head = passfile_line(found, "")
    try:
        old = path.read_text("utf-8").splitlines() if path.exists() else []
        lines = [line for line in old if not line.startswith(head)]
        write_whole(path, "\n".join([*lines, entry]) + "\n", mode=0o600)
    except UNUSABLE as error:
        raise PasswordNotThere(f"--passfile {path} cannot be used: {reason(error)}. Name another file.") from error
