"""Pure array functions: channels-last, float32 accumulation, no parameters."""
