"""Traffic for demonstrations, measurements and tests: simulated shoppers, and plain load.

Both speak to the public API only, like any caller.
"""
