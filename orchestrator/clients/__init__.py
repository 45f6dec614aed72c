"""One module per remote system; foreign errors stop here and become `orchestrator.core.errors`."""
