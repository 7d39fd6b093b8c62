"""What a bundle costs on this machine, on every engine that it has, and which settings follow.

contenders.py    who is measured, and why not the rest
opening.py       loaded, and held to the golden scores
measuring.py     timed in interleaved rounds
together.py      the winner in as many processes as there is room for
recommending.py  from figures to settings, with reasons
profile.py       all of it, in a line
values.py        what a `Profile` holds: the JSON
text.py, drawing.py   the same for people
story/           whole servers compared, from PyTorch behind FastAPI to a warm cache
"""

from service.profiling.contenders import Asked
from service.profiling.profile import ProfileOptions, Progress, profile_bundle
from service.profiling.values import Profile, encode_profile

__all__ = [
    "Asked",
    "Profile",
    "ProfileOptions",
    "Progress",
    "encode_profile",
    "profile_bundle",
]
