"""The command line and, later, deployments."""
