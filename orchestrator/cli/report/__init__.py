"""The report of a run as a file: JSON, or a page."""
