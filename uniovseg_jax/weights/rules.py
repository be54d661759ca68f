"""The rule type of weight conversion and the transforms that rules use.

A rule says which tensor of a published checkpoint fills which parameters of this package. Names are
templates whose placeholders stand for whole numbers, `layers.{i}.weight`, so that a rule reads the
same in both directions. Nothing here imports torch: tensors are NumPy arrays.
"""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """How a source tensor becomes its targets, and back.

    Attributes:
      forward: Source tensor and the shapes of the targets -> one array per target. A source that
        cannot take these shapes raises ValueError.
      inverse: One array per target -> the source tensor, in the shape that the source publishes.
    """

    forward: Callable[[np.ndarray, list[Shape]], list[np.ndarray]]
    inverse: Callable[[list[np.ndarray]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a rule table.

    Attributes:
      source: Template of the tensor's name in the checkpoint.
      targets: Templates of the parameters that it fills, with the same placeholders.
      transform: The change of layout.
    """

    source: str
    targets: tuple[str, ...]
    transform: Transform

    def match_source(self, name: str) -> tuple[str, ...] | None:
        """Returns the names of the targets, or None where the rule does not apply."""
        found = _compile(self.source).fullmatch(name)
        return tuple(t.format(**found.groupdict()) for t in self.targets) if found else None

    def match_target(self, path: str) -> tuple[str, tuple[str, ...]] | None:
        """Returns the source's name and all target names, given one of the targets."""
        for target in self.targets:
            found = _compile(target).fullmatch(path)
            if found:
                groups = found.groupdict()
                return self.source.format(**groups), tuple(t.format(**groups) for t in self.targets)
        return None

    def with_source_prefix(self, prefix: str) -> "Rule":
        """Returns the same rule for a checkpoint that puts `prefix` before every name."""
        return dataclasses.replace(self, source=prefix + self.source)


def rule(source: str, target: str | tuple[str, ...], transform: Transform) -> Rule:
    """Returns a rule; a single target may be given as a plain string."""
    return Rule(source, (target,) if isinstance(target, str) else target, transform)


def _compile(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    # Odd entries are placeholder names; a placeholder that comes back must repeat its number.
    seen: set[str] = set()
    pattern = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if part in seen else rf"(?P<{part}>\d+)"
            seen.add(part)
    return re.compile(pattern)


def _reshape(array: np.ndarray, shape: Shape) -> np.ndarray:
    if array.size != int(np.prod(shape)):
        raise ValueError(f"{array.size} numbers cannot take shape {shape}")
    return array.reshape(shape)


def _need_rank(array: np.ndarray, rank: int) -> None:
    if array.ndim != rank:
        raise ValueError(f"expected {rank} axes, found shape {array.shape}")


def _dense(x: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
    # Some checkpoints keep dense layers as 1x1 convolutions: (out, in, 1, 1).
    if x.ndim == 4 and x.shape[2:] == (1, 1):
        x = x[:, :, 0, 0]
    _need_rank(x, 2)
    return [x.T]


def _conv(x: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
    _need_rank(x, 4)
    return [x.transpose(2, 3, 1, 0)]


def _split_kernel(x: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
    _need_rank(x, 2)
    if x.shape[0] % 3:
        raise ValueError(f"{x.shape[0]} rows do not split into query, key and value")
    return [_reshape(block.T, shape) for block, shape in zip(np.split(x, 3), shapes, strict=True)]


def _split_bias(x: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
    _need_rank(x, 1)
    if x.shape[0] % 3:
        raise ValueError(f"{x.shape[0]} numbers do not split into query, key and value")
    return [_reshape(block, shape) for block, shape in zip(np.split(x, 3), shapes, strict=True)]


def _heads_out(x: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
    _need_rank(x, 2)
    return [_reshape(x.T, shapes[0])]


# Unchanged: norms, biases, tables.
KEEP = Transform(lambda x, shapes: [x], lambda xs: xs[0])
# Dense (out, in) -> kernel (in, out).
DENSE = Transform(_dense, lambda xs: xs[0].T)
# 1x1 convolution (out, in, 1, 1) -> dense kernel (in, out).
CONV_1X1 = Transform(_dense, lambda xs: xs[0].T[:, :, None, None])
# Convolution (out, in, h, w) -> (h, w, in, out); depthwise (c, 1, h, w) -> (h, w, 1, c).
CONV = Transform(_conv, lambda xs: xs[0].transpose(3, 2, 0, 1))
# Fused (3 d, d) -> query, key and value kernels (d, heads, head width).
QKV_KERNEL = Transform(
    _split_kernel, lambda xs: np.concatenate([x.reshape(x.shape[0], -1).T for x in xs])
)
# Fused (3 d) -> query, key and value biases (heads, head width).
QKV_BIAS = Transform(_split_bias, lambda xs: np.concatenate([x.reshape(-1) for x in xs]))
# Output projection (d, heads * head width) -> kernel (heads, head width, d).
HEADS_OUT = Transform(_heads_out, lambda xs: xs[0].reshape(-1, xs[0].shape[-1]).T)


def drop_leading(count: int) -> Transform:
    """Returns a transform that drops `count` leading axes of length 1."""

    def forward(x: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        if x.shape[:count] != (1,) * count:
            raise ValueError(f"expected {count} leading axes of length 1, found shape {x.shape}")
        return [x.reshape(x.shape[count:])]

    return Transform(forward, lambda xs: xs[0][(None,) * count])


def norm_rules(source: str, target: str) -> list[Rule]:
    """Returns the two rules of a norm: weight -> scale, bias -> bias."""
    return [
        rule(f"{source}.weight", f"{target}/scale", KEEP),
        rule(f"{source}.bias", f"{target}/bias", KEEP),
    ]


def linear_rules(source: str, target: str, kernel: Transform = DENSE) -> list[Rule]:
    """Returns the two rules of a dense or convolution layer with bias."""
    return [
        rule(f"{source}.weight", f"{target}/kernel", kernel),
        rule(f"{source}.bias", f"{target}/bias", KEEP),
    ]


def attention_rules(source: str, target: str) -> list[Rule]:
    """Returns the four rules of an attention layer with fused input projection."""
    parts = ("query", "key", "value")
    return [
        rule(f"{source}.in_proj_weight", tuple(f"{target}/{p}/kernel" for p in parts), QKV_KERNEL),
        rule(f"{source}.in_proj_bias", tuple(f"{target}/{p}/bias" for p in parts), QKV_BIAS),
        rule(f"{source}.out_proj.weight", f"{target}/out/kernel", HEADS_OUT),
        rule(f"{source}.out_proj.bias", f"{target}/out/bias", KEEP),
    ]
