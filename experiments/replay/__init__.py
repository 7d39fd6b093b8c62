"""What another policy would have earned, from a log of what was shown and what came of it."""

from experiments.replay.evaluation import PolicyValue as PolicyValue
from experiments.replay.evaluation import Replay as Replay
from experiments.replay.evaluation import evaluate as evaluate
from experiments.replay.log import Log as Log
from experiments.replay.log import Row as Row
from experiments.replay.log import log_of as log_of
from experiments.replay.log import read_log as read_log
from experiments.replay.policy import Policy as Policy
from experiments.replay.policy import PolicyEntry as PolicyEntry
from experiments.replay.policy import policy_of as policy_of
from experiments.replay.policy import read_policy as read_policy
from experiments.replay.support import ReplayRefused as ReplayRefused
from experiments.replay.tables import TableInvalid as TableInvalid
from experiments.replay.text import render_replay as render_replay
