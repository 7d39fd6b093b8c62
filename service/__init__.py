"""Composes: HTTP in, ordered slate out."""
