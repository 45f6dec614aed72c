"""What would change the answer, each with how far it is from there. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.advice.decision import Advice, Condition, Reach, Way, amount, months_text, percent
from orchestrator.core.advice.thresholds import threshold


def changes(advice: Advice) -> tuple[str, ...]:
    if advice.target == "elastic cluster":
        return (*_back_to_one_server(advice), *(_margin(one) for one in _known(advice.way)))
    needed = advice.saturated is not None or any(reach.beyond for reach in advice.reaches)
    said = [] if needed else [*(_distance(reach) for reach in advice.reaches), _saturation()]
    if advice.way is None:
        first = {way.fit.sharding: way for way in reversed(advice.ways)}
        said += [_to_fit(way) for _, way in sorted(first.items())]
        if not first:
            said.append(
                "A column that says whose a row is, in most tables and most queries; or a schema for each tenant."
            )
    return tuple(said)


def _distance(reach: Reach) -> str:
    most = amount(reach.limit, reach.unit)
    if reach.now is None:
        return f"{_capital(reach.title)}: from {most} on; not known now."
    times = f"{_times(reach.limit / reach.now)} what it is now" if reach.now else "now there is none"
    when = f", in {months_text(reach.months)} at the present growth" if reach.months is not None else ""
    soon = f" (or {threshold('horizon'):.0f} months before)" if reach.months is not None else ""
    return f"{_capital(reach.title)}: from {most} on{soon}; {times}{when}."


def _saturation() -> str:
    return (
        "A benchmark of the top writing statements that saturates CPU or WAL on the largest server "
        "(`orchestrator advise --benchmark`, then peak.saturated in the answers)."
    )


def _back_to_one_server(advice: Advice) -> Iterator[str]:
    for reach in advice.reaches:
        if reach.beyond:
            factor = "" if not reach.ratio or reach.ratio < 1 else f": {_times(reach.ratio)} that now"
            yield f"{_capital(reach.title)} that stays under {amount(reach.limit, reach.unit)}{factor}."
    if advice.saturated:
        yield f"A largest server that does not saturate its {advice.saturated.upper()} under the expected peak."


def _known(way: Way | None) -> list[Condition]:
    return [one for one in way.conditions if one.value is not None] if way else []


def _margin(one: Condition) -> str:
    return f"{_wanted(one, turn=True)}; now {_number(one, one.value or 0)}."


def _to_fit(way: Way) -> str:
    wanted = [f"{_wanted(one)} (now {_number(one, one.value or 0)})" for one in way.failed]
    wanted += [f"{_wanted(one)} (not known now)" for one in way.unknown]
    return f"Sharding {way.title} would need: {'; '.join(wanted)}."


def _wanted(one: Condition, turn: bool = False) -> str:
    """What must hold, or with `turn` what must no longer hold."""
    more = one.at_most == turn
    edge = ("more than" if turn else "at least") if more else ("less than" if turn else "at most")
    number = _number(one, one.limit)
    if one.name == "hottest":
        return f"{edge} {number} in the largest part" if not turn else f"{_capital(edge)} {number} in the largest part"
    text = f"{edge} {number} {one.text}"
    return _capital(text) if turn else text


def _number(one: Condition, value: float) -> str:
    return f"{value:,.0f}" if one.name == "units" else percent(value)


def _times(factor: float) -> str:
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.2g} times"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
