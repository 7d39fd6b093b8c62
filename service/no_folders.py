"""What a reader without a key may be told of a failure: its words, without this machine's folders.

Errors name whole paths, which the log keeps. Over HTTP they would tell anybody how the
machine is laid out; the file's name and the deployment beside it say what to look at.
"""

import re

_FOLDER = r"[^\s/:;,'\"()\[\]]"
_PATH = re.compile(
    r"(?<![\w./~%-])"  # neither within a URL nor within a relative path
    rf"/(?!v\d/)(?:{_FOLDER}+(?: {_FOLDER}+)*/)+"  # a folder's name may have blanks
    r"(?=[^\s/])"
)


def without_folders(text: str) -> str:
    """The text with each absolute path cut to the name of its file."""
    return _PATH.sub("", text)
