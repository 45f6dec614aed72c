"""The `orchestrator` command: parse, wire, call, exit code. Wires every other package; nothing imports it."""
