"""Azure's price list, served from files in the form of the real answers: names, units and pages as documented, every
irregularity that was reported of them, made-up prices."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.clients.azure.prices import PriceServiceFailed, fetch_items, read_prices
from orchestrator.core.outlook.pricing import parse_prices
from tests.fix_lab import Project

PAGES = Path(__file__).parent.parent / "data" / "retail-prices"


def items() -> list[dict[str, Any]]:
    return [item for n in (1, 2) for item in json.loads((PAGES / f"page{n}.json").read_text("utf-8"))["Items"]]


class Service(ThreadingHTTPServer):
    """Two pages; `broken` is answered instead, as a status or as a body."""

    broken: int | bytes | None = None

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/retail/prices"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        broken = self.server.broken
        if isinstance(broken, int):
            self.send_error(broken)
            return
        page = 2 if "page=2" in self.path else 1
        text = (PAGES / f"page{page}.json").read_text("utf-8").replace('"NEXT"', f'"{self.server.url}?page=2"')
        body = broken if broken is not None else text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_every_page_is_read_and_only_one_region_is_asked_for(service: Service) -> None:
    assert fetch_items("northeurope", "EUR", service.url) == items()
    query = parse_qs(urlsplit(service.asked[0]).query)
    assert "armRegionName eq 'northeurope'" in query["$filter"][0]
    assert query["currencyCode"] == ["'EUR'"]
    assert len(service.asked) == 2


def test_irregular_names_give_one_price_per_series_and_vcore() -> None:
    found = read_prices(items())
    assert found.compute_hour == {
        "Ddsv5": 0.09,
        "Dadsv5": 0.08,
        "Ddsv4": 0.1,
        "Ddsv6": 0.095,
        "Edsv5": 0.126,
        "Esv3": 0.12,
        "Standard_B1ms": 0.018,
        "Standard_B4ms": 0.29,
    }
    assert (found.storage_gb_month, found.iops_month, found.backup_gb_month) == (0.12, 0.05, 0.1)


def test_what_cannot_be_told_is_left_out_and_said() -> None:
    said = " ".join(read_prices(items()).left_out)
    assert "Eadsv5: one size only" in said
    assert "'M128dms_v2' is not understood" in said


def test_prices_that_contradict_each_other_are_left_out() -> None:
    strange = [dict(item) for item in items() if "Dadsv5" in item["productName"]]
    strange[1]["retailPrice"] = 0.5
    found = read_prices(strange)
    assert found.compute_hour == {}
    assert "contradict" in found.left_out[0]


def test_items_with_gaps_are_passed_over() -> None:
    gaps = [{}, {"productName": None}, {"productName": "x", "skuName": "y", "meterName": "z", "retailPrice": "free"}]
    assert read_prices([*gaps, *items()]).compute_hour["Ddsv5"] == 0.09


@pytest.mark.parametrize("broken", [500, 429, b"<html>", b"[]", b'{"Items": 1}', b'{"Items": []'])
def test_an_answer_of_no_use_is_a_sentence(service: Service, broken: int | bytes) -> None:
    service.broken = broken
    with pytest.raises(PriceServiceFailed, match=r"127\.0\.0\.1"):
        fetch_items("northeurope", "EUR", service.url)


def test_nobody_answers() -> None:
    with pytest.raises(PriceServiceFailed, match="try again"):
        fetch_items("northeurope", "EUR", "http://127.0.0.1:1/")


def test_a_next_page_elsewhere_is_not_followed(service: Service) -> None:
    service.broken = json.dumps({"Items": [], "NextPageLink": "https://example.com/"}).encode()
    with pytest.raises(PriceServiceFailed, match="another host"):
        fetch_items("northeurope", "EUR", service.url)


def test_only_the_web_is_asked() -> None:
    with pytest.raises(PriceServiceFailed, match="not an address"):
        fetch_items("northeurope", "EUR", "file:///etc/passwd")


def test_refresh_writes_a_price_file_and_keeps_other_regions(service: Service, project: Project) -> None:
    file = project.folder / "prices.json"
    options = ("prices", "refresh", "--currency", "EUR", "-o", str(file), "--url", service.url)
    assert project.call(*options, "--region", "North Europe").returncode == 0
    assert project.call(*options, "--region", "westeurope").returncode == 0
    written = parse_prices(file.read_text("utf-8"), "prices.json")
    assert set(written.regions) == {"northeurope", "westeurope"}
    assert written.regions["northeurope"].storage_gb_month == 0.12


def test_refresh_in_another_currency_does_not_touch_the_file(service: Service, project: Project) -> None:
    file = project.folder / "prices.json"
    options = ("prices", "refresh", "--region", "northeurope", "-o", str(file), "--url", service.url)
    assert project.call(*options, "--currency", "EUR").returncode == 0
    before = file.read_text("utf-8")
    refused = project.call(*options, "--currency", "USD")
    assert refused.returncode == 2
    assert "it is in EUR" in refused.stderr
    service.broken = 500
    assert project.call(*options, "--currency", "EUR").returncode == 1
    assert file.read_text("utf-8") == before


def test_refresh_needs_a_file_and_a_region(project: Project) -> None:
    assert "-o FILE" in project.call("prices", "refresh", "--region", "x").stderr
    assert "--region" in project.call("prices", "refresh", "-o", "p.json").stderr
