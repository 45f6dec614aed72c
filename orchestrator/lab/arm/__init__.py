"""Azure Resource Manager for one server, over loopback HTTP: the recorded wire protocol in front of a lab engine."""
