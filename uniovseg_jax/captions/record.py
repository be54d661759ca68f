"""One captioned image on its way through the text pipeline, and its form as a line of JSON."""

import dataclasses
import json
import re
from typing import Any, Literal, get_args

ImageKind = Literal["file", "tar", "url"]
Status = Literal["ok", "empty", "failed"]

# Of one line, in characters; raw captions of the published sets have some thousands.
MAX_LINE = 1 << 22
# Halves of UTF-16 pairs, which JSON can spell and UTF-8 cannot.
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class ImageReference:
    """Where the image of a record is.

    Attributes:
      kind: A file below the image folder, a member of a tar, or an address on the web.
      path: Of the file or the tar, relative to the image folder; or the address.
      member: Name within the tar.
      sha256: Of the encoded image as it lies there; None until somebody read it.
      width: In pixels, upright; None until somebody read it.
      height: In pixels, upright; None until somebody read it.
    """

    kind: ImageKind
    path: str
    member: str | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None


@dataclasses.dataclass(frozen=True)
class Entity:
    """A thing or region that a caption names.

    Attributes:
      text: Short lower-case noun phrase without a determiner.
      head: Its noun.
      span: First character and one past the last, in the caption that was parsed; None where the
        phrase does not stand there word for word.
    """

    text: str
    head: str | None = None
    span: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Tool:
    """What refined or parsed a caption.

    Attributes:
      name: Of the backend, such as `rules` or `openai_compatible`.
      model: That it asked.
      prompt_hash: First digits of the SHA-256 of the prompt.
    """

    name: str
    model: str | None = None
    prompt_hash: str | None = None


@dataclasses.dataclass(frozen=True)
class CaptionRecord:
    """A captioned image.

    Attributes:
      id: Unique within a source, and the same every time it is read.
      image: Where the image is.
      caption_raw: The captions as they came.
      caption: The one that is parsed; None until it is refined.
      entities: What it names, at most as many as the configuration allows.
      num_entities: How many there were before that.
      source: Name of the reader that it came from.
      refiner: What made `caption`.
      parser: What made `entities`.
      status: `empty` says that there are no entities, `failed` that a stage gave up.
      error: Why it failed, in a sentence.
      encoded: The upright image to store, where it was read; in no line of JSON.
    """

    id: str
    image: ImageReference
    caption_raw: tuple[str, ...]
    caption: str | None = None
    entities: tuple[Entity, ...] = ()
    num_entities: int = 0
    source: str = ""
    refiner: Tool | None = None
    parser: Tool | None = None
    status: Status = "ok"
    error: str | None = None
    encoded: bytes | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The texts of the entities."""
        return tuple(entity.text for entity in self.entities)


def to_json(record: CaptionRecord) -> str:
    """Returns a record as one line of JSON without its line break; what is None is left out."""
    document = {
        "id": record.id,
        "image": _known(dataclasses.asdict(record.image)),
        "caption_raw": list(record.caption_raw),
        "caption": record.caption,
        "entities": [_known(dataclasses.asdict(entity)) for entity in record.entities],
        "num_entities": record.num_entities,
        "meta": _known(
            {
                "source": record.source,
                "refiner": record.refiner and _known(dataclasses.asdict(record.refiner)),
                "parser": record.parser and _known(dataclasses.asdict(record.parser)),
                "status": record.status,
                "error": record.error,
            }
        ),
    }
    # U+2028 and its like are line breaks to some readers; JSON itself escapes only "\n".
    line = json.dumps(document, ensure_ascii=False)
    return _SURROGATES.sub("\ufffd", line).translate(_LINE_BREAKS)


def from_json(line: str) -> CaptionRecord:
    """Reads a record back.

    Raises:
      ValueError: If it is no record; one sentence that names the part which is wrong.
    """
    if len(line) > MAX_LINE:
        raise ValueError(f"The line has more than {MAX_LINE} characters.")
    try:
        document = json.loads(line)
    except RecursionError:
        raise ValueError("The line is nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"The line is no JSON: {error}.") from None
    if not isinstance(document, dict):
        raise ValueError("The line is no JSON object.")
    raw = _field(document, "caption_raw", (list, str))
    meta = _field(document, "meta", dict, {})
    entities = tuple(_entity(entry) for entry in _field(document, "entities", list, []))
    status = _choice(_field(meta, "status", str, "ok"), "status", get_args(Status))
    return CaptionRecord(
        id=clean_text(_field(document, "id", str)),
        image=_image(_field(document, "image", dict)),
        caption_raw=_texts([raw] if isinstance(raw, str) else raw),
        caption=_text(document, "caption"),
        entities=entities,
        num_entities=_count(document, "num_entities", len(entities)),
        source=_text(meta, "source") or "",
        refiner=_tool(meta, "refiner"),
        parser=_tool(meta, "parser"),
        status=status,
        error=_text(meta, "error"),
    )


def clean_text(text: str) -> str:
    """Returns text that UTF-8 can hold: half characters become U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


_LINE_BREAKS = {ord(c): f"\\u{ord(c):04x}" for c in "\x7f\x85\u2028\u2029"}


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _field(document: dict[str, Any], name: str, kind: Any, default: Any = None) -> Any:
    """Returns a part of the right type, or the default where it is absent or null."""
    value = document.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {str: "text", list: "a list", dict: "an object", int: "a whole number"}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(names[each] for each in kinds)
        raise ValueError(f"{name!r} is {str(value)[:40]!r}, expected {expected}.")
    return value


def _text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    return None if value is None else clean_text(_field(document, name, str))


def _texts(values: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise ValueError("'caption_raw' is no list of texts.")
    return tuple(clean_text(value) for value in values)


def _count(document: dict[str, Any], name: str, default: int) -> int:
    value = _field(document, name, int, default)
    if value < default:
        raise ValueError(f"{name!r} is {value}, fewer than the entities that are there.")
    return value


def _choice(value: str, name: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{name!r} is {value[:40]!r}, expected one of {', '.join(allowed)}.")
    return value


def _image(document: dict[str, Any]) -> ImageReference:
    sizes = {name: document.get(name) for name in ("width", "height")}
    for name, value in sizes.items():
        if value is not None and _field(document, name, int) < 1:
            raise ValueError(f"{name!r} is {value}, expected 1 or more.")
    return ImageReference(
        kind=_choice(_field(document, "kind", str), "kind", get_args(ImageKind)),
        path=clean_text(_field(document, "path", str)),
        member=_text(document, "member"),
        sha256=_text(document, "sha256"),
        **sizes,
    )


def _entity(entry: Any) -> Entity:
    if not isinstance(entry, dict):
        raise ValueError(f"An entity is {str(entry)[:40]!r}, expected an object.")
    span = entry.get("span")
    if span is not None:
        if not isinstance(span, list) or [type(n) for n in span] != [int, int]:
            raise ValueError(f"'span' is {str(span)[:40]!r}, expected two whole numbers.")
        if not 0 <= span[0] <= span[1]:
            raise ValueError(f"'span' is {span}, expected a first and a last place.")
        span = (span[0], span[1])
    return Entity(clean_text(_field(entry, "text", str)), _text(entry, "head"), span)


def _tool(meta: dict[str, Any], name: str) -> Tool | None:
    if meta.get(name) is None:
        return None
    tool = _field(meta, name, dict)
    return Tool(
        clean_text(_field(tool, "name", str)), _text(tool, "model"), _text(tool, "prompt_hash")
    )
