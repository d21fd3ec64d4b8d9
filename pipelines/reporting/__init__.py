"""The run report and the cards."""
