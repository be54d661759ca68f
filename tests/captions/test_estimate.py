"""What a dry run says about calls, tokens and cost; it asks nothing and keeps nothing."""

import re

import pytest
from caption_files import make_config, run, write_images, write_input, write_jsonl
from chat_server import ChatServer

from configs.captions import get_config
from uniovseg_jax.captions.estimate import Price, dry_run
from uniovseg_jax.captions.from_config import Tools

BOTH = "refiner=openai_compatible,parser=llm"


def estimate(config, num=3, **prices):
    """Returns the last line, and calls, tokens in and tokens out by stage."""
    with Tools(config, None) as tools:
        line = dry_run(tools.plan, tools.chats, prices, num).splitlines()[-1]
    pattern = r"(\w+): at most (\d+) calls of fake, about (\d+) tokens in, at most (\d+) out"
    return line, {name: tuple(map(int, rest)) for name, *rest in re.findall(pattern, line)}


def test_only_records_that_would_be_asked_about_count(tmp_path):
    write_images(tmp_path / "images", 3)
    lines = [f"A red ball {n}\thttp://a/{n}.jpg\n" for n in range(10)]
    (tmp_path / "t.tsv").write_text("".join(lines))
    config = get_config(f"cc3m_tsv,{BOTH}")
    config.source.path, config.source.images = f"{tmp_path}/t.tsv", f"{tmp_path}/images"
    config.refiner.model = config.parser.model = "fake"
    with ChatServer() as server:
        config.refiner.base_url = config.parser.base_url = server.url
        line, stages = estimate(config, 1)
        assert not server.calls
        assert line.startswith("10 entries. refine: at most 3 calls")
        assert {name: calls for name, (calls, _, _) in stages.items()} == {"refine": 3, "parse": 3}
        assert run(config, tmp_path / "out")[1] == 6


def test_captions_without_words_and_refined_ones_are_counted_as_they_are_parsed(tmp_path):
    write_images(tmp_path / "images", 3)
    image = {"kind": "file", "path": "1.jpg"}
    refined = {"id": "1", "image": image, "caption_raw": ["1 2"], "caption": "A ball " * 100,
               "meta": {"refiner": {"name": "x"}}}  # fmt: skip
    lines = [{"image": "0.jpg", "caption": "12 !"}, refined]
    write_jsonl(tmp_path / "captions.jsonl", lines)
    with ChatServer() as server:
        config = make_config(tmp_path, "parser=llm", server)
        _, stages = estimate(config, 1)
        # Once for the refined caption, whose tokens are its own.
        assert stages["parse"][0] == 1 and stages["parse"][1] > 175
        assert run(config, tmp_path / "out")[1] == 1


def test_the_parser_reads_what_the_refiner_writes(tmp_path):
    write_input(tmp_path, 4)
    with ChatServer() as server:
        config = make_config(tmp_path, BOTH, server)
        tokens = []
        for longest in (100, 350):
            config.refiner.max_tokens = longest
            line, stages = estimate(config, 2)
            assert stages["refine"][2] == 4 * longest and stages["parse"][2] == 4 * 512
            tokens.append(stages["parse"][1])
        assert tokens[1] - tokens[0] == 4 * 250
        assert "For a cost set price_in and price_out." in line


@pytest.mark.parametrize(("price_in", "price_out"), [(2e6, 0.0), (0.0, 3e6), (2e6, 3e6)])
def test_tokens_in_and_out_have_their_own_price(tmp_path, price_in, price_out):
    write_input(tmp_path, 3)
    with ChatServer() as server:
        config = make_config(tmp_path, BOTH, server)
        line, stages = estimate(config, parse=Price(price_in, price_out))
    _, tokens_in, tokens_out = stages["parse"]
    cost = 2 * tokens_in * (price_in > 0) + 3 * tokens_out * (price_out > 0)
    assert f"Cost: at most about {cost:.2f} at the configured prices." in line
