"""The Pulumi program: one elastic cluster on Azure, from the same stack file that the orchestrator reads."""
