"""A vision-language model of the transformers library on this machine, such as LLaVA 1.5."""

import dataclasses
import hashlib
import importlib
import io
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from PIL import Image

from uniovseg_jax.captions.chat.question import Failure, Question
from uniovseg_jax.captions.images import small_jpeg

# Bytes at either end of a file that its digest looks at.
_SAMPLE = 1 << 20
_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class LocalOptions:
    """Which model, and how to run it.

    Attributes:
      model: A folder, or a name of the Hugging Face hub.
      dtype: Of its weights: float32, bfloat16 or float16.
      device: As torch names it, such as `cpu` or `cuda`.
      batch_size: Questions that it answers together.
      max_tokens: Longest answer.
      image_side: Images are scaled down to so many pixels a side, before the model's own scaling.
    """

    model: str
    dtype: str
    device: str
    batch_size: int
    max_tokens: int
    image_side: int


class HfChat:
    """Answers in batches, the likeliest word at each place; see `Chat`."""

    name = "hf_local"
    num_at_once = 1

    def __init__(self, options: LocalOptions, processor: Any = None, model: Any = None):
        """Checks the options; the model is loaded with the first question.

        Args:
          options: Which model.
          processor: Instead of the one that is loaded, for tests.
          model: Instead of the one that is loaded, for tests.

        Raises:
          ValueError: If an option makes no sense.
        """
        if not options.model:
            raise ValueError("model is empty; expected a folder or a name of the hub.")
        if options.dtype not in _DTYPES:
            raise ValueError(f"dtype is {options.dtype!r}, expected one of {', '.join(_DTYPES)}.")
        for name in ("batch_size", "max_tokens", "image_side"):
            if getattr(options, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(options, name)}.")
        self._options, self.batch_size = options, options.batch_size
        # Records name the model, but no folder of this machine.
        folder = pathlib.Path(options.model)
        self.model = folder.resolve().name if folder.is_dir() else options.model
        self.settings = {
            "files": _digest_files(folder) if folder.is_dir() else None,
            "temperature": 0,
            "max_tokens": options.max_tokens,
            "image_side": options.image_side,
            "dtype": options.dtype,
        }
        self._processor, self._network = processor, model
        self._lock = threading.Lock()

    def answer(self, questions: Sequence[Question]) -> list[str | Failure]:
        """Answers all questions together; one whose image cannot be read fails alone.

        Raises:
          ValueError: If the model cannot be loaded, or fails, such as for lack of memory.
        """
        results: list[str | Failure] = [Failure("The model gave no answer.")] * len(questions)
        good, chats, images = [], [], []
        for index, question in enumerate(questions):
            try:
                image = self._image(question)
            except ValueError as error:
                results[index] = Failure(str(error))
                continue
            good.append(index)
            chats.append(_messages(question, image))
            images.append(image)
        # Questions with and without an image do not go together.
        for kind in (True, False):
            chosen = [n for n, image in enumerate(images) if (image is not None) == kind]
            if not chosen:
                continue
            with self._lock:
                texts = self._generate([chats[n] for n in chosen])
            for n, text in zip(chosen, texts, strict=True):
                if text.strip():
                    results[good[n]] = text.strip()
        return results

    def forget(self, questions: Sequence[Question]) -> None:
        """Does nothing: answers are kept by `CachedChat` alone."""

    def _image(self, question: Question) -> Image.Image | None:
        if question.read_image is None:
            return None
        jpeg, _, _ = small_jpeg(question.read_image(), self._options.image_side)
        return Image.open(io.BytesIO(jpeg))

    def _generate(self, chats: list[Any]) -> list[str]:
        self._load()
        try:
            inputs = self._processor.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                padding=True,
            ).to(self._network.device, self._network.dtype)
            made = self._network.generate(
                **inputs, max_new_tokens=self._options.max_tokens, do_sample=False
            )
            new = made[:, inputs["input_ids"].shape[1] :]
            return self._processor.batch_decode(new, skip_special_tokens=True)
        # Of torch: out of memory above all, which is one of these.
        except RuntimeError as error:
            raise ValueError(
                f"The model {self.model!r} failed on {len(chats)} questions at once: "
                f"{_one_line(error)}. If memory is short, set batch_size, which is "
                f"{self.batch_size}, lower."
            ) from error

    def _load(self) -> None:
        if self._network is not None:
            return
        try:
            torch = importlib.import_module("torch")
            transformers = importlib.import_module("transformers")
        except ImportError as error:
            raise ValueError(
                "A local model needs torch and transformers; install them "
                "(pip install torch transformers)."
            ) from error
        try:
            self._processor = transformers.AutoProcessor.from_pretrained(self._options.model)
            # Answers begin at the same place in all rows only if shorter questions are filled up
            # in front.
            self._processor.tokenizer.padding_side = "left"
            network = transformers.AutoModelForImageTextToText.from_pretrained(
                self._options.model, dtype=getattr(torch, self._options.dtype)
            )
            self._network = network.to(self._options.device).eval()
        # The library raises whatever comes up on broken folders: OSError, KeyError, RuntimeError.
        except Exception as error:
            raise ValueError(
                f"The model {self._options.model!r} cannot be loaded: {_one_line(error)}."
            ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _digest_files(folder: pathlib.Path) -> str:
    """Returns a digest that tells models in folders of one name apart, without reading it all."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:12]


def _messages(question: Question, image: Image.Image | None) -> list[dict[str, Any]]:
    """Returns the turns as chat templates want them.

    Many templates of vision models know no system turn: what it says goes in front of the first
    turn of the user.
    """
    system = [text for role, text in question.turns if role == "system"]
    messages = []
    for role, text in question.turns:
        if role == "system":
            continue
        content: list[dict[str, Any]] = []
        if not messages:
            text = "\n\n".join([*system, text])
            content = [{"type": "image", "image": image}] if image is not None else []
        messages.append({"role": role, "content": [*content, {"type": "text", "text": text}]})
    return messages
