"""The express lane: plain ranking requests answered on the connection itself.

A framework's way from bytes to handler and back costs several times what
ranking ten candidates does. Here a request whose head is plain is decoded,
ranked and answered with the very functions that the route uses, without ASGI
in between; every other request goes untouched to the route, which stays the
reference.
"""
