import types

import pytest

from uniovseg_jax.train import compile_report
from uniovseg_jax.train.compile_report import Traffic

HLO = """HloModule jit_step, is_scheduled=true

%region_0.1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.1 = f32[]{:T(128)} add(%a, %b)
}

%fused_computation.7 (p: f32[8,128]) -> f32[4096,128] {
  ROOT %broadcast.1 = f32[4096,128]{1,0:T(8,128)} broadcast(%p), dimensions={1}
}

ENTRY %main (x: f32[8,128], y: bf16[16]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %y = bf16[16]{0:T(256)} parameter(1)
  %all-reduce.3 = (f32[8,128]{1,0:T(8,128)}, bf16[16]{0:T(256)(2,1)}) all-reduce(%x, %y)
  %all-reduce-start = f32[2]{0:T(128)} all-reduce-start(%z), to_apply=%region_0.1
  %all-reduce-done = f32[2]{0:T(128)} all-reduce-done(%all-reduce-start)
  %all-gather-start = (bf16[16]{0:T(256)(2,1)}, bf16[128]{0:T(256)(2,1)}) all-gather-start(%y)
  %all-gather-done = bf16[128]{0:T(256)(2,1)} all-gather-done(%all-gather-start)
  %permute-start = (f32[4]{0}, f32[4]{0}, u32[]{:S(2)}, u32[]) collective-permute-start(%y)
  %get-tuple-element.5 = f32[8,128]{1,0:T(8,128)} get-tuple-element(%all-reduce.3), index=0
  %fusion.2 = f32[16,128]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%fused_computation.7
  %fusion.3 = f32[16,128]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%fused_computation.7
  ROOT %copy.1 = pred[100]{0:T(128)(4,1)} copy(%w)
}
"""


def test_sizes_of_shapes():
    assert compile_report.shape_bytes("f32[7,256]{1,0:T(8,128)}") == [7 * 256 * 4]
    assert compile_report.shape_bytes("(bf16[8]{0:T(256)(2,1)}, s32[], pred[3,3]{1,0})") == [
        16,
        4,
        9,
    ]
    assert compile_report.shape_bytes("f8e4m3fn[10]{0}") == [10]
    assert compile_report.shape_bytes("token[]") == [0]


def test_collectives_are_counted_by_kind_and_an_asynchronous_pair_once():
    assert compile_report.count_collectives(HLO) == {
        "all-gather": Traffic(1, 256),
        "all-reduce": Traffic(2, 8 * 128 * 4 + 16 * 2 + 2 * 4),
        "collective-permute": Traffic(1, 16),
    }
    assert compile_report.count_collectives("ENTRY %main () -> f32[] {\n}\n") == {}


def test_largest_results_leave_out_the_inside_of_fusions():
    largest = compile_report.largest_results(HLO, 2)
    assert largest == [
        (8192, "fusion f32[16,128]{1,0} x 2"),
        (256, "all-gather-done bf16[128]{0} x 1"),
    ]


def test_memory_counts_donated_arguments_once():
    compiled = types.SimpleNamespace(
        memory_analysis=lambda: types.SimpleNamespace(
            argument_size_in_bytes=100,
            output_size_in_bytes=90,
            alias_size_in_bytes=80,
            temp_size_in_bytes=1000,
            generated_code_size_in_bytes=7,
        ),
        cost_analysis=lambda: {"flops": 2e9, "bytes accessed": 3e9},
        as_text=lambda: HLO,
    )
    report = compile_report.make_report(compiled)
    assert (report.outputs, report.memory) == (10, 1117)
    text = compile_report.format_report(report, memory=2e9, needed_flops=1e9)
    assert "GFLOP 2.00 as the compiler counts them, loops once; 1.00 by formula" in text
    assert "all-gather 1 with 0.00 MB" in text


def test_memory_of_chips():
    assert compile_report.chip_memory("v5p:2x2x1") == 95e9
    with pytest.raises(ValueError, match="topology is 'v9:1x1'; expected a chip of v5e, v6e, v5p"):
        compile_report.chip_memory("v9:1x1")
