"""Azure Resource Manager, Monitor, the price list and Pulumi."""
