"""Readers: one file of one format to records, each with its place, or to a counted reason."""
