"""Scores with confidence intervals."""
