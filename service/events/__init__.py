"""Exposures, impressions and clicks: in, kept, and added up.

The way of an event: `decoding` (body to events), `intake` (which of them count,
by `tokens` and `slates`), `log` (to the event server by `stream`, else to the
`spool`), `aggregation` (added up exactly once), `statistics` (read for a report).
Exposures enter at `exposures` and share everything from `log` on.
"""
