"""Declare, grow and balance Azure Database for PostgreSQL elastic clusters (flexible server + Citus)."""
