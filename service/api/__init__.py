"""HTTP: bytes to value, value or problem to bytes. One file per resource."""
