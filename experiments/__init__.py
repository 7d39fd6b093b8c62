"""Who sees what, and what it did: assignment, statistics, decisions."""
