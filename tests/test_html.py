import html.parser

import numpy as np

from uniovseg_jax import html as html_lib

_VOID_TAGS = {"meta", "img", "br"}


class Checker(html.parser.HTMLParser):
    """Collects text and addresses, and checks that tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        if tag not in _VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass  # <line/> and the like close themselves.

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_is_closed_and_needs_nothing_from_outside():
    picture = np.zeros((4, 6, 3), np.uint8)
    page = html_lib.page(
        "a < b",
        [
            html_lib.table(("", "x"), [("a & b", 1), ("<script>", 2)], strong=(1,)),
            html_lib.grid([html_lib.figure(picture, "<b>bold</b>", 'say "x"')], 100),
            html_lib.line_chart({"r<un": ([1.0, 2.0], [0.5, 0.25])}, "step", "loss"),
        ],
    )
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    assert checker.addresses and all(a.startswith("data:image/") for a in checker.addresses)
    assert "<script>" in "".join(checker.text) and "<script>" not in page
    assert "://" not in page


def test_a_chart_leaves_out_what_is_not_finite_and_bears_flat_or_empty_curves():
    chart = html_lib.line_chart({"a": ([1.0, 2.0, 3.0], [1.0, float("nan"), 3.0])}, "step", "loss")
    assert chart.count("<polyline") == 1 and "nan" not in chart
    assert "nan" not in html_lib.line_chart({"flat": ([1.0, 1.0], [2.0, 2.0])}, "step", "loss")
    assert "Nothing was logged" in html_lib.line_chart({"none": ([], [])}, "step", "loss")
