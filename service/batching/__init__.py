"""Dynamic batching: rows of many requests in one engine call."""
