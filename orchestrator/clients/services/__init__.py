"""Roles, schemas, migrations and grants of the services."""
