"""The cache looked after by hand: filled before demand comes, looked into, purged."""
