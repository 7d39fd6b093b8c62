"""Copies of requests, scored off their path by the variants that did not serve them.

`sampling` says which requests are copied for whom, `scorer` scores the copies when
nothing else has to be, and tells what came of the comparison. Nobody is shown a
copy's scores, no cache keeps them, and they count in no variant's latency.
"""
