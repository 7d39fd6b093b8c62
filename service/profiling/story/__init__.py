"""The story, reproduced: from a model behind a web framework to a warm cache, step by step.

traffic.py     the requests, the same for every step
peer.py        the server of the steps without Podium
steps.py       what each step runs, and which steps this machine has
precision.py   which reduced precision is faster here
servers.py     a step's processes: started, asked, stopped
checking.py    every step's answers against the graph scored directly
measuring.py   one run, and all runs in interleaved rounds
telling.py     all of it, in a line
values.py      what a `Story` holds: the JSON
text.py, drawing.py   the same for people
"""

from service.profiling.story.measuring import FULL, QUICK, Plan
from service.profiling.story.telling import StoryOptions, tell_story
from service.profiling.story.values import Story, encode_story

__all__ = ["FULL", "QUICK", "Plan", "Story", "StoryOptions", "encode_story", "tell_story"]
