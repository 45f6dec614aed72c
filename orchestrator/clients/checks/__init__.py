"""Reads what checks look at, on every node. Changes nothing that is not its own."""
