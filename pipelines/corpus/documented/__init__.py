"""Documented objects of installed packages, and what is made of them: pages, pairs and questions."""
