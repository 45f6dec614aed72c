"""`orchestrator advise`: what to run a database on, decided or measured."""
