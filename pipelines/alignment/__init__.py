"""Reward models and preference optimisation."""
