"""The forms that labels come in: one file per form, whatever dataset uses it."""
