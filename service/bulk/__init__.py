"""Item pages of millions of items, computed by many processes on many machines.

A page is computed and kept by the very parts of the service that answer for
it, in processes of their own: what they put into the cache is what a replica
would have put there, under the same key. So a page may be computed twice, by a
task that ran again after its process died, and nothing but time is lost.
"""
