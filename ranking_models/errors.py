"""What a person who trains, exports or loads a model can get wrong."""


class InputError(ValueError):
    """A file or value that was handed in cannot be used.

    The text is one line that names the file and the place, says what is
    wrong, and what to do; command-line verbs print it as it is.
    """


class BundleError(InputError):
    """A bundle is damaged or does not fit; names the file."""

    def __init__(self, file: str, reason: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(f"{file}: {reason}")


def first_line(error: Exception) -> str:
    """Of what a library says, or what kind of error it is where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
