"""The kinds of source: what each is called, what pins it, how it is cut and read."""
