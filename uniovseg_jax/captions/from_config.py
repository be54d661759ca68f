"""From a configuration (`configs/captions.py`) to what the text pipeline works with."""

import contextlib
import dataclasses
import pathlib
from typing import Any

from uniovseg_jax.captions.chat.cache import AnswerCache, CachedChat
from uniovseg_jax.captions.chat.hf_chat import HfChat, LocalOptions
from uniovseg_jax.captions.chat.openai_chat import OpenAiChat
from uniovseg_jax.captions.chat.question import Chat
from uniovseg_jax.captions.chat.server_options import ServerOptions
from uniovseg_jax.captions.images import ImageFolder
from uniovseg_jax.captions.llm_parser import LlmParser
from uniovseg_jax.captions.parsers import NltkParser, Parser, RulesParser, SpacyParser
from uniovseg_jax.captions.preparation import Plan
from uniovseg_jax.captions.refine import Identity, ModelRefiner, Refiner
from uniovseg_jax.captions.shards import SHARD_FILES
from uniovseg_jax.captions.sources.cc3m import Cc3m
from uniovseg_jax.captions.sources.coco_captions import CocoCaptions
from uniovseg_jax.captions.sources.jsonl import Jsonl
from uniovseg_jax.captions.sources.sharegpt4v import ShareGpt4v
from uniovseg_jax.captions.sources.source import CaptionSource, Exclusion
from uniovseg_jax.captions.sources.webdataset import WebdatasetTars


class Tools:
    """A plan and the models behind it; use as a context, which closes them.

    Attributes:
      plan: To be given to `prepare_captions`.
      chats: Models by the stage that asks them.
    """

    def __init__(
        self,
        config: Any,
        cache: pathlib.Path | None,
        limit: int | None = None,
        part: tuple[int, int] | None = None,
    ):
        """Makes what the configuration names; no question is asked yet.

        Args:
          config: Of `configs/captions.py`.
          cache: File of the answers; made only if a model is asked. None keeps none.
          limit: Only so many entries; None for all.
          part: Number and count of the part of the source; None for all.

        Raises:
          FileNotFoundError: If an input is not there.
          ValueError: If a name is unknown, options do not go together or make no sense, or a
            package is missing.
        """
        self.chats: dict[str, Chat] = {}
        self._cache_path, self._cache = cache, None
        self._stack = contextlib.ExitStack()
        try:
            self.plan = self._make_plan(config, limit, part)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "Tools":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make_plan(self, config: Any, limit: int | None, part: tuple[int, int] | None) -> Plan:
        form = config.output.form
        if form not in SHARD_FILES:
            raise ValueError(
                f"The form of the output is {form!r}, expected one of {', '.join(SHARD_FILES)}."
            )
        source = make_source(config.source)
        needs_images = form == "array_record" or config.refiner.name != "identity"
        images = _image_folder(config.source, source) if needs_images else None
        refiner, refiner_settings = self._refiner(config.refiner, images)
        parser, parser_settings = self._parser(config.parser)
        return Plan(
            source=source,
            images=images,
            refiner=refiner,
            parser=parser,
            max_entities=config.max_entities,
            form=form,
            records_per_shard=config.output.records_per_shard,
            max_skipped=config.max_skipped,
            max_failed=config.max_failed,
            settings={
                "refiner": {**dataclasses.asdict(refiner.tool), **refiner_settings},
                "parser": {**dataclasses.asdict(parser.tool), **parser_settings},
            },
            limit=limit,
            part=part,
        )

    def _refiner(self, config: Any, images: ImageFolder | None) -> tuple[Refiner, dict[str, Any]]:
        if config.name == "identity":
            return Identity(), {}
        if config.name not in ("openai_compatible", "hf_local"):
            raise ValueError(
                f"Unknown refiner {config.name!r}; expected identity, openai_compatible or "
                "hf_local."
            )
        assert images is not None
        chat = self._chat("refine", config.name, config)
        return ModelRefiner(chat, images, config.max_sentences), {"settings": chat.settings}

    def _parser(self, config: Any) -> tuple[Parser, dict[str, Any]]:
        if config.name == "rules":
            return RulesParser(), {}
        if config.name == "nltk":
            return NltkParser(), {}
        if config.name == "spacy":
            return SpacyParser(config.model, config.batch_size), {}
        if config.name != "llm":
            raise ValueError(f"Unknown parser {config.name!r}; expected rules, nltk, spacy or llm.")
        chat = self._chat("parse", config.backend, config)
        settings = {"settings": chat.settings, "grounded": config.grounded}
        return LlmParser(chat, config.grounded), settings

    def _chat(self, stage: str, backend: str, config: Any) -> Chat:
        if backend == "openai_compatible":
            chat = self._stack.enter_context(OpenAiChat(ServerOptions(**_known(config, _SERVER))))
        elif backend == "hf_local":
            chat = HfChat(LocalOptions(**_known(config, _LOCAL)))
        else:
            raise ValueError(
                f"Unknown backend {backend!r}; expected openai_compatible or hf_local."
            )
        self.chats[stage] = chat
        if self._cache_path is None:
            return chat
        if self._cache is None:
            self._cache = AnswerCache(self._cache_path)
            self._stack.callback(self._cache.close)
        return CachedChat(chat, stage, self._cache)


def make_source(config: Any) -> CaptionSource:
    """Returns the reader that `config.source` describes.

    Raises:
      FileNotFoundError: If an input is not there.
      ValueError: If the name is unknown or an option means nothing for it.
    """
    if not config.path:
        raise ValueError("config.source.path is empty; it has to name the captions.")
    if config.name == "cc3m_tsv":
        if config.exclude:
            raise ValueError("config.source.exclude means nothing for cc3m_tsv.")
        return Cc3m(config.path, config.images)
    exclusion = Exclusion(config.exclude)
    if config.name == "webdataset_tar":
        if config.images:
            raise ValueError("config.source.images means nothing for webdataset_tar.")
        return WebdatasetTars(config.path, exclusion)
    layouts = {"sharegpt4v_json": ShareGpt4v, "coco_captions": CocoCaptions, "jsonl": Jsonl}
    if config.name not in layouts:
        expected = ", ".join(sorted([*layouts, "cc3m_tsv", "webdataset_tar"]))
        raise ValueError(f"Unknown source {config.name!r}; expected one of {expected}.")
    return layouts[config.name](config.path, exclusion, bool(config.images))


def _image_folder(config: Any, source: CaptionSource) -> ImageFolder:
    if isinstance(source, WebdatasetTars):
        return ImageFolder(source.image_folder)
    if not source.has_images:
        raise ValueError(
            "config.source.images is empty; a refiner that looks at images and the output form "
            "array_record need the folder of the images."
        )
    return ImageFolder(config.images)


def _known(config: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: config[name] for name in names}


_SERVER = tuple(field.name for field in dataclasses.fields(ServerOptions))
_LOCAL = tuple(field.name for field in dataclasses.fields(LocalOptions))
