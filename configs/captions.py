"""Captions of images: read, refined, parsed to entities, written for stage 2; docs/captions.md.

Sources:
  sharegpt4v_json  ShareGPT4V's JSON             --config.source.path=<file> .images=<image root>
  cc3m_tsv         Conceptual Captions           --config.source.path=<tsv> .images=<folder>
  webdataset_tar   tars of img2dataset           --config.source.path=<tar or folder of tars>
  coco_captions    captions_train2017.json       --config.source.path=<file> .images=<train2017>
  jsonl            {"image": ..., "caption": ...} a line, or failed.jsonl of an earlier run

Run:  python scripts/prepare_captions.py --config=configs/captions.py:coco_captions \
          --config.source.path=captions_train2017.json --output=data/captions
Ask:  python scripts/prepare_captions.py --dry_run=3 --output=data/captions \
          --config=configs/captions.py:coco_captions,refiner=openai_compatible,parser=llm ...

Behind the source, separated by commas: `refiner=identity|openai_compatible|hf_local`,
`parser=rules|nltk|spacy|llm`, `llm=openai_compatible|hf_local` (who answers the parser llm) and
`output=jsonl|array_record`. The first of each is the default. Without a model it needs no network
and costs nothing; what a model costs is what `--dry_run` estimates.
"""

import ml_collections

_SOURCES = ("sharegpt4v_json", "cc3m_tsv", "webdataset_tar", "coco_captions", "jsonl")
_OPTIONS = {
    "refiner": ("identity", "openai_compatible", "hf_local"),
    "parser": ("rules", "nltk", "spacy", "llm"),
    "llm": ("openai_compatible", "hf_local"),
    "output": ("jsonl", "array_record"),
}


def get_config(arg: str = "jsonl") -> ml_collections.ConfigDict:
    """Returns the configuration of a source.

    Args:
      arg: Name of the source, then options, such as `coco_captions,parser=spacy`.

    Raises:
      ValueError: If the source or an option is unknown.
    """
    source, *words = arg.split(",")
    if source not in _SOURCES:
        raise ValueError(f"Unknown source {source!r}; expected one of {', '.join(_SOURCES)}.")
    options = {name: values[0] for name, values in _OPTIONS.items()}
    for word in words:
        name, _, value = word.partition("=")
        if value not in _OPTIONS.get(name, ()):
            expected = "; ".join(f"{key}={'|'.join(each)}" for key, each in _OPTIONS.items())
            raise ValueError(f"Unknown option {word!r}; expected {expected}.")
        options[name] = value
    config = ml_collections.ConfigDict()
    config.source = ml_collections.ConfigDict(
        {
            "name": source,
            "path": "",
            "images": "",  # Folder that image paths are relative to; for cc3m_tsv of <row>.jpg.
            "exclude": "",  # COCO's instances_val2017.json, or a number a line: left out.
        }
    )
    config.refiner = ml_collections.ConfigDict({"name": options["refiner"]})
    if options["refiner"] != "identity":
        config.refiner.max_sentences = 4
        config.refiner.update(_model(options["refiner"], max_tokens=256))
    config.parser = ml_collections.ConfigDict({"name": options["parser"]})
    if options["parser"] == "spacy":
        config.parser.update({"model": "en_core_web_sm", "batch_size": 64})
    if options["parser"] == "llm":
        config.parser.update({"backend": options["llm"], "grounded": True})
        config.parser.update(_model(options["llm"], max_tokens=512))
    config.max_entities = 16
    config.max_skipped = 0.01
    config.max_failed = 0.02
    config.output = ml_collections.ConfigDict(
        {"form": options["output"], "records_per_shard": 1000}
    )
    config.cache = ""  # File of the models' answers; empty: beside the output, one of each shard.
    return config


def _model(backend: str, max_tokens: int) -> dict:
    if backend == "hf_local":
        return {
            "model": "",  # A folder, or a name of the hub such as llava-hf/llava-1.5-7b-hf.
            "dtype": "bfloat16",
            "device": "cuda",
            "batch_size": 8,
            "max_tokens": max_tokens,
            "image_side": 672,
        }
    return {
        "base_url": "http://localhost:8000/v1",
        "model": "",
        "api_key_env": "",  # Name of the environment variable that holds the key, not the key.
        "max_tokens": max_tokens,
        "image_side": 672,
        "json_mode": "schema",  # Or "object", or "none" for servers that know neither.
        "requests_per_minute": 0.0,  # 0: no limit. Each stage has limits of its own.
        "tokens_per_minute": 0.0,
        "num_at_once": 8,
        "deadline": 120.0,
        "max_attempts": 6,
        "backoff": 1.0,
        "price_in": 0.0,  # Per million tokens, in whatever currency; for --dry_run.
        "price_out": 0.0,
    }
