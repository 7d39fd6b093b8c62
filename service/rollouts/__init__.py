"""Experiments while they run: definitions read again, standings kept and changed, alike everywhere.

A definition comes from a file; `experiments.standing` says what is decided
besides. Standings live on the event server, so that all replicas go by the
same ones, and every change is one compare-and-set with its audit record.
"""
