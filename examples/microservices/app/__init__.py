"""The user, time and ping services of Microsoft's microservices tutorial, written anew. `python -m app` runs one."""
