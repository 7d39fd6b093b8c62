"""How many replicas, GPUs and cache servers a load needs, and what they cost. Pure but for a file.

values.py     what is measured, what is assumed, and what follows: the JSON
measured.py   CPU time per row and per ranking, from ``podium bench`` and its story
sizing.py     from those to machines and money
text.py       the same for people
"""

from service.profiling.capacity.measured import read_measured
from service.profiling.capacity.sizing import size
from service.profiling.capacity.values import Assumptions, Capacity

__all__ = ["Assumptions", "Capacity", "read_measured", "size"]
