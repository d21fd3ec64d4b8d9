"""Toxicity: listed words, the classifier, and how it is trained."""
