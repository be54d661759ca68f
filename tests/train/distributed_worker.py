"""One of several processes that train together.

python tests/train/distributed_worker.py <config.json> <workdir> <port> <processes> <number>
"""

import json
import pathlib
import sys

import jax
import ml_collections


def main(argv: list[str]) -> None:
    """Trains, and prints what `train` returns."""
    config_path, workdir, port, count, number = argv
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if int(count) > 1:
        jax.distributed.initialize(
            f"127.0.0.1:{port}", int(count), int(number), heartbeat_timeout_seconds=10
        )
    from uniovseg_jax.train.loop import train

    config = ml_collections.ConfigDict(json.loads(pathlib.Path(config_path).read_text()))
    print(json.dumps(train(config, workdir)))


if __name__ == "__main__":
    main(sys.argv[1:])
