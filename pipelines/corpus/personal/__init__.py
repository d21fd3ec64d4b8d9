"""Personal data: how each kind is found, and what is put in its place."""
