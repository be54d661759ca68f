"""The paper's ablation of mask-text alignment (table 4), on tinyscenes."""
