"""Azure's public Retail Prices API: the prices of one region, from answers whose product names follow no single rule.

`Ddsv5` comes as "General Purpose - Ddsv5 Series" or "General Purpose Ddsv5 Series", with plain or no-break spaces;
sizes as "4 vCore", "1 vCore" or "vCore"; burstable ones by name. What cannot be told for certain is left out and
reported.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isclose
from typing import Any

from orchestrator.core.errors import OrchestratorError

API = "https://prices.azure.com/api/retail/prices"
VERSION = "2023-01-01-preview"
SERVICE = "Azure Database for PostgreSQL"
TIMEOUT = 30.0
MOST_PAGES = 200
_COMPUTE = re.compile(
    r"^(?:Azure Database|Az DB) for (?:PostgreSQL|PGSQL) Flexible Server "
    r"(?:(?:General Purpose|Memory Optimized|Burstable|Confidential Compute) )?(?:AMD )?(\w+) Series Compute$"
)
_STORAGE = re.compile(r"^(?:Azure Database|Az DB) for PostgreSQL Flexible Server Storage$")
_BACKUP = re.compile(r"^(?:Azure Database|Az DB) for PostgreSQL Flexible Server Backup Storage$")
_SIZE = re.compile(r"^(?:(\d+) )?vCore$")
_BURSTABLE = re.compile(r"^B(\d+)(m?s)$", re.IGNORECASE)
_SERIES = re.compile(r"^([A-Z]+)([a-z]*)v(\d+)$")


class PriceServiceFailed(OrchestratorError):
    def __init__(self, url: str, reason: str) -> None:
        host = urllib.parse.urlsplit(url).netloc
        super().__init__(f"The price service {host} gave no usable answer: {reason}. Nothing was changed; try again.")


@dataclass(slots=True)
class FoundPrices:
    """`compute_hour` by size, or by series for each vCore; `left_out` says what could not be understood."""

    compute_hour: dict[str, float] = field(default_factory=dict)
    storage_gb_month: float | None = None
    iops_month: float | None = None
    backup_gb_month: float | None = None
    left_out: list[str] = field(default_factory=list)


def fetch_items(region: str, currency: str, url: str = API) -> list[dict[str, Any]]:
    """Every price of the service in one region, page by page. Raises PriceServiceFailed."""
    wanted = f"serviceName eq '{SERVICE}' and armRegionName eq '{region}' and priceType eq 'Consumption'"
    query = {"api-version": VERSION, "currencyCode": f"'{currency}'", "$filter": wanted}
    page: str | None = f"{url}?{urllib.parse.urlencode(query)}"
    items: list[dict[str, Any]] = []
    for _ in range(MOST_PAGES):
        if not page:
            return items
        answer = _get(page)
        found = answer.get("Items")
        if not isinstance(found, list):
            raise PriceServiceFailed(url, "the answer has no Items")
        items += [item for item in found if isinstance(item, dict)]
        page = answer.get("NextPageLink")
        if page and urllib.parse.urlsplit(page).hostname != urllib.parse.urlsplit(url).hostname:
            raise PriceServiceFailed(url, "the next page is on another host")
    raise PriceServiceFailed(url, f"there are more than {MOST_PAGES} pages")


def _get(url: str) -> dict[str, Any]:
    if urllib.parse.urlsplit(url).scheme not in {"https", "http"}:
        raise PriceServiceFailed(url, f"{url} is not an address of the web")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - the scheme was checked
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        raise PriceServiceFailed(url, f"it answered {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise PriceServiceFailed(url, str(getattr(error, "reason", error))) from error
    if not isinstance(answer, dict):
        raise PriceServiceFailed(url, "the answer is not a JSON object")
    return answer


def read_prices(items: Iterable[Mapping[str, Any]]) -> FoundPrices:
    found = FoundPrices()
    sized: dict[str, dict[int | None, float]] = defaultdict(dict)
    for item in _latest(items):
        name, price = _plain(item["productName"]), float(item["retailPrice"])
        unit, meter = item.get("unitOfMeasure"), _plain(item.get("meterName", ""))
        compute = _COMPUTE.match(name)
        if compute and unit == "1 Hour":
            _note_compute(compute[1], _plain(item.get("skuName", "")), price, sized, found)
        elif _STORAGE.match(name) and meter == "Storage Data Stored" and unit == "1 GB/Month":
            found.storage_gb_month = price
        elif _STORAGE.match(name) and meter == "IOPS Scaling Provisioned IOPS" and unit == "1/Month":
            found.iops_month = price
        elif _BACKUP.match(name) and meter == "Backup Storage LRS Data Stored" and unit == "1 GB/Month":
            found.backup_gb_month = price
    for series, prices in sorted(sized.items()):
        _settle(series, prices, found)
    return found


def _note_compute(
    series: str, sku: str, price: float, sized: dict[str, dict[int | None, float]], found: FoundPrices
) -> None:
    size, burstable = _SIZE.match(sku), _BURSTABLE.match(sku)
    if size:
        sized[series][int(size[1]) if size[1] else None] = price
    elif burstable:
        found.compute_hour[f"Standard_B{burstable[1]}{burstable[2].lower()}"] = price
    else:
        found.left_out.append(f"{series}: the size {sku!r} is not understood")


def _settle(series: str, prices: dict[int | None, float], found: FoundPrices) -> None:
    """Whether "4 vCore" is the price of four or of each: told by another size of the series, never assumed."""
    if not _SERIES.match(series):
        found.left_out.append(f"{series}: not a series of compute sizes")
        return
    single = prices.get(None, prices.get(1))
    sizes = {cores: price for cores, price in prices.items() if cores is not None and cores > 1}
    if single is None and len(sizes) < 2:
        found.left_out.append(f"{series}: one size only, and whether its price is for each vCore cannot be told")
        return
    per_vcore = single if single is not None else next(iter(sizes.values())) / next(iter(sizes))
    if all(isclose(price, per_vcore * cores, rel_tol=0.01) for cores, price in sizes.items()):
        found.compute_hour[series] = round(per_vcore, 6)
    elif len({round(price, 6) for price in prices.values()}) == 1:
        found.compute_hour[series] = next(iter(prices.values()))
    else:
        found.left_out.append(f"{series}: its sizes' prices contradict each other")


def _latest(items: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Pay-as-you-go items of the primary meter, the newest of each: older prices stay in the answer."""
    newest: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for item in items:
        named = all(isinstance(item.get(key), str) for key in ("productName", "skuName", "meterName"))
        priced = isinstance(item.get("retailPrice"), int | float) and item["retailPrice"] > 0
        first = not item.get("tierMinimumUnits") and item.get("isPrimaryMeterRegion", True)
        if not (named and priced and first and item.get("type", "Consumption") == "Consumption"):
            continue
        key = item["productName"], item["skuName"], item["meterName"]
        since = str(item.get("effectiveStartDate", ""))
        if key not in newest or since > str(newest[key].get("effectiveStartDate", "")):
            newest[key] = item
    yield from newest.values()


def _plain(text: str) -> str:
    """No-break spaces become spaces, and the dash that only some product names have goes."""
    return " ".join(text.replace("\u00a0", " ").replace(" - ", " ").split())
