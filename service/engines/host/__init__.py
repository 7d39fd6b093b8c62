"""One process that owns the engines of a device and scores for all workers.

What a worker asks for goes through memory that both have mapped: rows are
gathered where the engine reads them, and scores are read where it wrote them.
Only a few bytes that say so go through a socket.

* `slot`: the shared memory of one caller. `wire`: what is said about it.
* `engine`: a slot as an `Engine`, in the worker. `client`: opens slots, and
  opens them again when the process is back.
* `schedule`: which waiting slots are scored next, and together. `models`: the
  engines, for as long as a slot wants them. `host`: the threads that do both.
* `process`: the process itself. `keeper`: starts it, and starts it again.

Nothing here has a name in the file system: the memory and the sockets are
inherited or sent as descriptors, and are gone with the last process that has them.
"""
