"""Architectures as rows of one table."""
