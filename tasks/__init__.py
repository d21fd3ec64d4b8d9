"""Stages as Prefect tasks."""
