"""A running PostgreSQL that may become a cluster: read only."""
