"""The report of a run as one HTML page, made from the JSON report alone: no script, nothing from the network.

Everything a chart shows is in a table too. Every text that comes from a cluster goes through `parts.text`.
"""

from orchestrator.cli.report.page.document import render

__all__ = ["render"]
