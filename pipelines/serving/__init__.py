"""The bundle and the endpoint that serves it."""
