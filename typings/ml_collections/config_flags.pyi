from typing import Any

from absl import flags

def DEFINE_config_file(
    name: str, default: str | None = ..., help_string: str = ..., lock_config: bool = ...
) -> flags.FlagHolder[Any]: ...
