"""flagd's flag definitions as experiments: exactly, or not at all.

What maps: a flag whose targeting is one ``fractional`` on the unit, perhaps for
some contexts only (``if`` with ``and``, ``==``, ``===``, ``in``, ``starts_with``),
perhaps with units pinned to a variant before it. Every unit with an id then gets the
variant that flagd gives; who has none is never drawn here, while a text of its
own that flagd hashes can do without. All else is refused with its place: an
experiment that nearly agrees with the flag system would move some users, and
nobody would see it.

Contexts are flat here, and a value of theirs is one text, number or truth; what
flagd resolves of lists and nested objects is not meant.

Source:
    The flagd flag-definition schema and its rules on targeting,
    https://flagd.dev/reference/flag-definitions/.
"""

from experiments.flagd.document import Imported as Imported
from experiments.flagd.document import Refusal as Refusal
from experiments.flagd.document import import_flagd as import_flagd
from experiments.flagd.places import Refused as Refused
