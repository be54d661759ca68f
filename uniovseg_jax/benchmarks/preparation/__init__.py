"""Making what a dataset's owners leave to its users: one command for what scripts do elsewhere.

`recipe.py` says what a preparation is, `prepare.py` runs one, and every dataset has a file.
"""
