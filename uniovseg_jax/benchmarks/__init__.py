"""The paper's benchmarks: how their owners ship them, and what is scored on each.

`benchmark.py` says what a benchmark is, `registry.py` opens one by name, `labels/` reads the forms
that labels come in, and `preparation/` makes what a dataset's owners leave to its users.
"""
