"""The text of a file that a person wrote, bounded: no device or dump of gigabytes is read."""

from pathlib import Path

from service.errors import StartupError

LARGEST_BYTES = 16 * 1024 * 1024


def read_text(file: Path, what: str) -> str:
    """What is in a file, read once: it may be a pipe.

    Args:
        file: UTF-8, with or without a byte order mark.
        what: What the file holds, for the message.

    Raises:
        FileNotFoundError: there is none.
        StartupError: it cannot be read, is no text or longer than `LARGEST_BYTES`.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_BYTES + 1)
        if len(content) <= LARGEST_BYTES:
            return content.decode("utf-8-sig")
        reason = f"longer than {LARGEST_BYTES >> 20} MiB"
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    raise StartupError(f"{file}: {what} cannot be read: {reason}")
