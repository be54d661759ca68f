"""A local model: with a stand-in always, with a tiny random LLaVA where transformers is there."""

import pytest
from caption_files import jpeg_of
from PIL import Image

from uniovseg_jax.captions.chat.hf_chat import HfChat, LocalOptions
from uniovseg_jax.captions.chat.question import Failure, Question

TURNS = (("system", "Describe."), ("user", "<caption>\na red ball\n</caption>"))
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}"
    "{% endfor %}assistant"
)


def options(**changes):
    values = {
        "model": "m",
        "dtype": "float32",
        "device": "cpu",
        "batch_size": 2,
        "max_tokens": 4,
        "image_side": 16,
    }
    return LocalOptions(**{**values, **changes})


class Inputs(dict):
    def to(self, *_):
        return self


class Ids:
    """Stands for a tensor of ids: as many rows as texts, two places of question."""

    def __init__(self, rows):
        self.rows, self.shape = rows, (len(rows), 2)

    def __getitem__(self, places):
        assert places == (slice(None), slice(2, None))
        return self.rows


class FakeModel:
    """Processor and network at once: answers with the text that it was asked."""

    device, dtype = "cpu", "float32"

    def __init__(self):
        self.batches = []

    def apply_chat_template(self, chats, **_):
        self.batches.append(chats)
        texts = [chat[0]["content"][-1]["text"].splitlines()[-2] for chat in chats]
        return Inputs(input_ids=Ids(texts))

    def generate(self, input_ids, max_new_tokens, do_sample):
        assert max_new_tokens == 4 and do_sample is False
        return input_ids

    def batch_decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return ids


def question(text, image=None):
    turns = (("system", "Describe."), ("user", f"<caption>\n{text}\n</caption>"))
    return Question(turns, image and "ab", image and (lambda: image))


def test_questions_with_and_without_images_are_answered_in_their_order():
    fake = FakeModel()
    chat = HfChat(options(), fake, fake)
    broken = b"<html>"
    questions = [question("a", jpeg_of(1)), question("b"), question("c", broken), question(" ")]
    answers = chat.answer(questions)
    assert answers[:2] == ["a", "b"]
    assert isinstance(answers[2], Failure) and "cannot be read as an image" in answers[2].reason
    assert answers[3] == Failure("The model gave no answer.")
    assert [len(batch) for batch in fake.batches] == [1, 2]
    ((message,),) = fake.batches[0]
    assert message["role"] == "user"
    assert isinstance(message["content"][0]["image"], Image.Image)
    assert message["content"][0]["image"].size == (16, 12)
    assert message["content"][1]["text"].startswith("Describe.\n\n<caption>")


def test_later_turns_follow_the_first():
    fake = FakeModel()
    turns = (*question("a").turns, ("assistant", "x"), ("user", "Again."))
    HfChat(options(), fake, fake).answer([Question(turns)])
    ((*_, answer, again),) = fake.batches[0]
    assert (answer["role"], again["content"][0]["text"]) == ("assistant", "Again.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "model is empty"),
        ({"dtype": "int8"}, "dtype is 'int8', expected one of float32"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_wrong_options_are_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        HfChat(options(**changes))


def test_a_model_that_runs_out_of_memory_is_one_sentence():
    class FullModel(FakeModel):
        def generate(self, **_):
            # As torch.OutOfMemoryError, which is one.
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has 1 GiB.")

    fake = FullModel()
    with pytest.raises(ValueError) as caught:
        HfChat(options(batch_size=8), fake, fake).answer([question("a"), question("b")])
    assert str(caught.value) == (
        "The model 'm' failed on 2 questions at once: CUDA out of memory. Tried to allocate 2 GiB. "
        "GPU 0 has 1 GiB. If memory is short, set batch_size, which is 8, lower."
    )


def test_without_transformers_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="pip install torch transformers"):
        HfChat(options()).answer([Question(TURNS)])


@pytest.fixture(scope="module")
def tiny_llava(tmp_path_factory, request):
    """The folder of a LLaVA of a few thousand random weights."""
    import importlib.util

    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    request.getfixturevalue("open_clip")  # Makes torchvision importable beside any torch.
    transformers = __import__("transformers")
    import tokenizers
    import torch

    folder = tmp_path_factory.mktemp("llava")
    words = ["<pad>", "<unk>", "<image>", *"user assistant a red ball Describe . < > / caption"
             .split()]  # fmt: skip
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sizes, image_size=16, patch_size=8),
        text_config=transformers.LlamaConfig(**sizes, vocab_size=len(vocabulary), pad_token_id=0),
        image_token_index=vocabulary["<image>"],
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)
    processor = transformers.LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder


def test_a_tiny_random_llava_answers_the_same_alone_and_in_a_batch(tiny_llava):
    chat = HfChat(options(model=str(tiny_llava)))
    questions = [question("a red ball", jpeg_of(1)), question("a", jpeg_of(90))]
    together = chat.answer(questions)
    assert chat.model == tiny_llava.name and len(chat.settings["files"]) == 12
    alone = [chat.answer([each])[0] for each in questions]
    assert together == alone
    assert all(isinstance(answer, (str, Failure)) for answer in together)
    assert any(isinstance(answer, str) for answer in together)


def test_a_folder_without_a_model_is_one_sentence(tmp_path, tiny_llava):
    with pytest.raises(ValueError, match="cannot be loaded"):
        HfChat(options(model=str(tmp_path))).answer([Question(TURNS)])
