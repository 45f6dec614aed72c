"""Which engines this machine has, and which one `auto` takes: docker, then native, then embedded. Never downloads."""

from __future__ import annotations

from orchestrator.core.errors import LabRefused
from orchestrator.lab import docker, embedded, native
from orchestrator.lab.engine import Availability, Engine, EngineName, LabSettings

ORDER: tuple[EngineName, ...] = ("docker", "native", "embedded")


def survey() -> tuple[Availability, ...]:
    """Every engine with its version or the reason why it cannot run here, best first."""
    return docker.availability(), native.availability(), embedded.availability()


def choose(wanted: str) -> Availability:
    """Raises LabRefused with the reason of every engine that was looked for and not found."""
    names = ORDER if wanted == "auto" else (wanted,)
    looked = [found for found in survey() if found.engine in names]
    for found in looked:
        if found.available:
            return found
    reasons = "\n".join(f"  {found.engine}: {found.reason}" for found in looked)
    raise LabRefused(f"No lab engine can run here; nothing was started.\n{reasons}")


def make(engine: EngineName, settings: LabSettings) -> Engine:
    if engine == "docker":
        return docker.DockerEngine(settings)
    if engine == "native":
        return native.NativeEngine(settings)
    return embedded.EmbeddedEngine(settings)
