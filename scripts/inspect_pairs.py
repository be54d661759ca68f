"""Writes an HTML report about kept pairs: the best, the worst, those that flip, and a search.

python scripts/inspect_pairs.py --pairs=runs/stage2/pairs --output=runs/stage2/pairs.html
"""

import sys

from absl import app, flags

from uniovseg_jax.command_line import parse_flags

_PAIRS = flags.DEFINE_string("pairs", None, "Folder of a pair store.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "HTML file to write.", required=True)
_EXTREME = flags.DEFINE_integer("extreme", 24, "Pairs of every kind.", lower_bound=1)
_PER_ENTITY = flags.DEFINE_integer("per_entity", 3, "Pictures per entity.", lower_bound=1)
_ENTITIES = flags.DEFINE_integer("entities", 200, "Entities with pictures.", lower_bound=1)


def main(_: list[str]) -> None:
    """Reads the store and writes the file; a mistake ends it with one sentence."""
    from uniovseg_jax.alignment.inspection import inspect
    from uniovseg_jax.alignment.pair_report import write_pair_report
    from uniovseg_jax.alignment.store import PairStore

    try:
        store = PairStore(_PAIRS.value)
        found = inspect(store, _EXTREME.value, _PER_ENTITY.value, _ENTITIES.value)
        path = write_pair_report(store, found, _OUTPUT.value)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"Written: {path}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
