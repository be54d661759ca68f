"""What a program compiled for TPUs needs per device, read off the compiled program itself."""

import collections
import dataclasses
import math
import re
from typing import Any

# High-bandwidth memory of one chip in bytes, by the name that a topology starts with.
CHIP_MEMORY = {"v5e": 16e9, "v6e": 32e9, "v5p": 95e9}

_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
)
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}
# `%name = <shape> opcode(...)`; the shape of a tuple holds blanks, the opcode none.
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.-]+ = (.+?) ([a-z][\w-]*)\(")
_SHAPE = re.compile(r"\b([a-z]+\d*)(?:e\d+m\d+\w*)?\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of one kind.

    Attributes:
      count: Instructions in the program; one in a loop counts once.
      num_bytes: Sum of the sizes of their results on one device.
    """

    count: int
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class CompileReport:
    """Figures of one device.

    Attributes:
      arguments: Bytes of state and batch.
      outputs: Bytes of results that do not reuse the memory of an argument.
      temporaries: Bytes of everything in between, at the worst moment.
      code: Bytes of the program.
      flops: As the compiler counts them, loops once.
      bytes_accessed: Likewise.
      collectives: Traffic by kind.
      largest: Results of instructions, the largest first: bytes and description.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int
    flops: float
    bytes_accessed: float
    collectives: dict[str, Traffic]
    largest: list[tuple[int, str]]

    @property
    def memory(self) -> int:
        """Bytes that the device must have."""
        return self.arguments + self.outputs + self.temporaries + self.code


def shape_bytes(shape: str) -> list[int]:
    """Returns the sizes of the arrays in an HLO shape, without padding to tiles.

    Args:
      shape: Such as `f32[7,256]{1,0:T(8,128)}` or a tuple `(bf16[8]{0}, s32[])`.
    """
    sizes = []
    for dtype, dims in _SHAPE.findall(re.sub(r"\{[^{}]*\}", "", shape)):
        digits = re.search(r"\d+", dtype)
        bits = _BITS.get(dtype, int(digits[0]) if digits else 0)
        sizes.append(math.prod(int(d) for d in dims.split(",") if d) * bits // 8)
    return sizes


def count_collectives(hlo: str) -> dict[str, Traffic]:
    """Counts the collectives of a compiled program.

    Args:
      hlo: Its text, as `compiled.as_text()` gives it.

    Returns:
      Count and bytes of results by kind, `all-reduce` and so on; an asynchronous pair is one.
    """
    counts: dict[str, int] = collections.Counter()
    sizes: dict[str, int] = collections.Counter()
    for shape, opcode in _instructions(hlo):
        kind = opcode.removesuffix("-start")
        if kind not in _COLLECTIVES:
            continue
        arrays = shape_bytes(shape)
        if opcode in ("all-gather-start", "collective-permute-start"):
            # Operands, results, and for some a few words of state.
            arrays = arrays[len(arrays) // 2 :] if len(arrays) == 2 else arrays[1:2]
        counts[kind] += 1
        sizes[kind] += sum(arrays)
    return {kind: Traffic(counts[kind], sizes[kind]) for kind in sorted(counts)}


def largest_results(hlo: str, number: int) -> list[tuple[int, str]]:
    """Returns the largest arrays that instructions outside of fusions write.

    Args:
      hlo: Text of a compiled program.
      number: How many to return at most, each opcode and shape once.

    Returns:
      Bytes, and opcode with shape and how often it occurs, the largest first.
    """
    seen: dict[tuple[int, str], int] = collections.Counter()
    for shape, opcode in _instructions(_without_fusions(hlo)):
        if shape.startswith("(") or opcode in ("parameter", "get-tuple-element", "bitcast"):
            continue
        (size,) = shape_bytes(shape) or (0,)
        seen[size, f"{opcode} {re.sub(r':[^}]*', '', shape)}"] += 1
    ordered = sorted(seen.items(), reverse=True)[:number]
    return [(size, f"{text} x {count}") for (size, text), count in ordered]


def chip_memory(topology: str) -> float:
    """Returns the bytes of memory of one device of a topology.

    Raises:
      ValueError: If the chip is not in `CHIP_MEMORY`.
    """
    chip = topology.partition(":")[0]
    if chip not in CHIP_MEMORY:
        known = ", ".join(CHIP_MEMORY)
        raise ValueError(f"topology is {topology!r}; expected a chip of {known}.")
    return CHIP_MEMORY[chip]


def format_report(report: CompileReport, memory: float, needed_flops: float) -> str:
    """Returns the report as lines of text.

    Args:
      report: Of one device.
      memory: Bytes that the device has.
      needed_flops: By formula, for one device.
    """
    parts = ("arguments", "outputs", "temporaries", "code")
    lines = [f"  {name:12} {getattr(report, name) / 1e9:7.2f} GB" for name in parts]
    share = report.memory / memory
    lines += [
        f"  {'sum':12} {report.memory / 1e9:7.2f} GB, {share:.0%} of {memory / 1e9:.0f} GB",
        f"GFLOP {report.flops / 1e9:,.2f} as the compiler counts them, loops once; "
        f"{needed_flops / 1e9:,.2f} by formula",
        f"Bytes accessed {report.bytes_accessed / 1e9:.1f} GB, loops once",
        "Collectives (of loops once): "
        + (
            ", ".join(
                f"{kind} {traffic.count} with {traffic.num_bytes / 1e6:.2f} MB"
                for kind, traffic in report.collectives.items()
            )
            or "none"
        ),
        "Largest results of instructions:",
        *(f"  {size / 1e6:9.1f} MB  {text}" for size, text in report.largest),
    ]
    return "\n".join(["Memory of each device:", *lines])


def make_report(compiled: Any) -> CompileReport:
    """Reads the figures of what `jax.jit(...).lower(...).compile()` returned."""
    memory, cost, hlo = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    return CompileReport(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=cost.get("flops", 0.0),
        bytes_accessed=cost.get("bytes accessed", 0.0),
        collectives=count_collectives(hlo),
        largest=largest_results(hlo, 8),
    )


def _instructions(hlo: str) -> list[tuple[str, str]]:
    """Returns shape and opcode of every instruction."""
    matches = (_INSTRUCTION.match(line) for line in hlo.splitlines())
    return [(match[1], match[2]) for match in matches if match]


def _without_fusions(hlo: str) -> str:
    """Drops the computations whose values never reach memory."""
    blocks = re.split(r"\n(?=\S)", hlo)
    return "\n".join(block for block in blocks if not re.match(r"%?fused_computation", block))
