"""Deduplication: reading and signing, meeting, comparing, deciding, writing."""
