"""The ``podium`` command, which Ctrl-C ends in order from its first import on."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from service.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("podium: interrupted\n")
        sys.exit(130)  # as `service.cli.exit_codes` has it, which is among what was imported
    run()


if __name__ == "__main__":
    main()
