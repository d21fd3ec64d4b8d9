"""The command line, the server, and deployments."""
