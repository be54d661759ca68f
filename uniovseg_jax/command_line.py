"""What scripts do alike with their command lines."""

import sys

from absl import flags


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags for `app.run`; a wrong one is one sentence and exit code 2."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def refuses_arguments(argv: list[str]) -> bool:
    """Says, with one sentence for people, whether there is anything besides flags."""
    if len(argv) > 1:
        print(f"Unexpected argument {argv[1]!r}: every argument is a --flag.", file=sys.stderr)
    return len(argv) > 1
