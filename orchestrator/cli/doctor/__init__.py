"""`orchestrator doctor`: the ports, Azure's side, and the drill."""
