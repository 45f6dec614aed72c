"""Finds statements that an elastic cluster or its pooler will not run as their author thinks. It runs nothing.

Every rule is the description of something measured on Citus and PgBouncer; `docs/lint` has a page for each.
"""
