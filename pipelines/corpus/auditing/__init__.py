"""What a corpus holds: counts, and how groups of people are spoken of."""
