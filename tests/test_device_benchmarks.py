"""The benchmark of an accelerator and the counts of compiled programs, in small on a CPU."""

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "accelerator.py"


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the benchmarks by name, as the scripts do."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def measured(directory, *flags):
    """results.json of a quick run."""
    command = [sys.executable, str(SCRIPT), "--quick", f"--out={directory}", *flags]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (directory / "results.md").read_text() in done.stdout
    return json.loads((directory / "results.json").read_text())


@pytest.mark.e2e
def test_a_part_that_hangs_costs_its_limit_and_nothing_else(tmp_path):
    found = measured(tmp_path, "--parts=duals,copy", "--part_seconds=0.1")
    assert [part["part"] for part in found["parts"]] == ["duals", "copy"]
    for part in found["parts"]:
        assert part["ended"] == "stopped at its limit of 0.1 s"
        assert part["rows"] == []
        assert part["seconds"] < 30


@pytest.mark.e2e
def test_the_limits_of_the_machine(tmp_path):
    (part,) = measured(tmp_path, "--parts=copy", "--minutes=5")["parts"]
    assert part["ended"] == "done"
    assert {row["unit"] for row in part["rows"]} >= {"TB/s", "TFLOP/s", "s a step", "s"}
    values = {row["what"]: row["value"] for row in part["rows"]}
    one, many = (
        values[f"a step of {k} small kernel{s} in a scan"] for k, s in ((1, ""), (64, "s"))
    )
    assert 0 < one < many
    assert set(part["facts"]) == {"machine", "devices", "versions", "commit"}
    told = (tmp_path / "results.md").read_text()
    assert "| 355 TFLOP/s |" in told
    assert "3eb48c8" in told
    assert "Quick: small sizes" in told


@pytest.mark.slow
@pytest.mark.e2e
def test_every_part_measures_something(tmp_path):
    found = measured(tmp_path, "--minutes=15")
    for part in found["parts"]:
        assert part["ended"] == "done", part
        assert part["rows"], part
        for row in part["rows"]:
            assert row["value"] is not None, row
            assert row["value"] > 0 or row["what"] == "a launch", row
    rows = {
        (row["what"], row["contestant"]): row for part in found["parts"] for row in part["rows"]
    }
    dual = rows["32 of n = 10, gamma 0.0312", "ocsvm_jax"]
    assert "32 CONVERGED; rho of the first 32 within" in dual["note"]
    for row in rows.values():
        if row["ratio"] is not None:
            assert row["ratio"] > 0


def test_unknown_parts_are_refused(module, monkeypatch, capsys):
    accelerator = module("accelerator")
    monkeypatch.setattr(sys, "argv", ["accelerator.py", "--parts=duals,dual"])
    with pytest.raises(SystemExit):
        accelerator.parsed()
    assert "no parts are called dual; there are copy, duals" in capsys.readouterr().err


def test_every_part_has_a_module_and_a_line_in_the_help(module):
    accelerator = module("accelerator")
    for name in accelerator.PARTS:
        assert (ROOT / "benchmarks" / "device" / f"{name}.py").exists()
        assert f"\n    {name} " in accelerator.__doc__


def test_rows_of_a_process_that_was_killed(module, tmp_path):
    report, contest = module("device.report"), module("device.contest")
    row = contest.Row("what", "who", 1e-6, "s a problem", 2.0, goal="duals 2048")
    path = report.rows_file(tmp_path, "duals")
    path.write_text(f'{{"commit": "c"}}\n{json.dumps(row._asdict())}\n{{"what": "ha')
    assert report.read_rows(path) == ({"commit": "c"}, [row])
    assert report.read_rows(tmp_path / "none") == ({}, [])
    cells = report.line(row).split(" | ")
    assert cells[2:4] == ["2", "1 us a problem"]
    assert cells[5:7] == ["0.05 us", "3.08 us"]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (2.5, "s", "2.5 s"),
        (0.0025, "s a step", "2.5 ms a step"),
        (2.5e-8, "s a problem", "0.025 us a problem"),
        (1.86, "TB/s", "1.86 TB/s"),
        (None, "", "none"),
    ],
)
def test_figures(module, value, unit, said):
    assert module("device.report").figure(value, unit) == said


def test_a_section_that_fails_costs_itself(module):
    contest = module("device.contest")
    row = contest.Row("first", "who", 1.0, "s")

    def fails():
        yield row
        raise MemoryError("too much\nand a long story")

    rows = list(contest.attempts({"first": fails, "second": lambda: iter([row])}))
    assert [rows[0], rows[2]] == [row, row]
    assert (rows[1].what, rows[1].value, rows[1].note) == ("first", None, "MemoryError: too much")


def test_goals_are_those_that_rows_name(module):
    """Every goal is named somewhere, whole or as what is put together from sizes."""
    goals = module("device.goals").GOALS
    text = "".join(path.read_text() for path in (ROOT / "benchmarks" / "device").glob("*.py"))
    for name in goals:
        assert f'"{name}' in text
    # The guided step is judged by its ratio.
    assert goals["ogae step"].goal == "1.2 times ae"


HLO = """
%wide.body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]) parameter(0)
  %fusion.1 = f32[8]{0} fusion(%p), kind=kLoop, calls=%fused
  %loop.2 = (s32[], f32[8]) while(%p), condition=%until, body=%inner
  ROOT %tuple = (s32[], f32[8]) tuple(%p, %fusion.1)
}

%inner (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %copy.1 = f32[8]{0} copy(%p)
  %call.1 = f32[8]{0} call(%copy.1), to_apply=%command_buffer
  %choice = f32[8]{0} conditional(%p, %copy.1, %copy.1), branch_computations={%yes, %no}
  ROOT %tuple = (s32[], f32[8]) tuple(%p, %copy.1)
}

%command_buffer (p: f32[8]) -> f32[8] {
  %fusion.2 = f32[8]{0} fusion(%p), kind=kLoop, calls=%fused
  ROOT %fusion.3 = f32[8]{0} fusion(%fusion.2), kind=kLoop, calls=%fused
}

%yes (p: f32[8]) -> f32[8] {
  ROOT %mine = f32[8]{0} custom-call(%p), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(f)/my_kernel/pallas_call" id=1}
}

%no (p: f32[8]) -> f32[8] {
  ROOT %p = f32[8]{0} parameter(0)
}

%until (p: (s32[], f32[8])) -> pred[] {
  ROOT %less = pred[] fusion(%p), kind=kLoop, calls=%fused
}

%always (p: (s32[], f32[8])) -> pred[] {
  ROOT %less = pred[] fusion(%p), kind=kLoop, calls=%fused
}

ENTRY %main.1 (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %c = s32[] constant(0)
  %loop.1 = (s32[], f32[8]) while(%x), condition=%always, body=%wide.body, backend_config={"known_trip_count":{"n":"20"}}
  ROOT %out = f32[8]{0} fusion(%loop.1), kind=kLoop, calls=%fused
}
"""  # noqa: E501


def test_launches_are_counted_loop_by_loop(module):
    launches = module("device.launches")
    found = launches.launches(HLO)
    assert found.kinds == Counter({"fusion": 1})
    # Of its own: a copy, and the two of the call. To go on or not costs one more.
    assert launches.formula(found) == "1 + 20 x (1 + n x (1 + 3 + perhaps (..)))"
    assert launches.formula(found, 3) == "1 + 20 x (1 + n x (1 + 3 + perhaps (1)))"
    assert "  body x 20: 1 (1 fusion)" in launches.tree(found).split("\n")
    assert module("device.target").pallas_names(HLO) == {"my_kernel"}
    assert module("device.contest").kernel_kind(HLO) == "a fused kernel"
    assert module("device.contest").kernel_kind(HLO.replace("triton", "other")) == "XLA's loop"


PTX = """
.visible .entry mine(
.param .u64 x
)
{
mov.u32 %r1, 0;
$L__BB0_1:
ld.global.b32 %r2, [%rd1];
add.s32 %r1, %r1, %r2;
$L__BB0_2:
shfl.sync.bfly.b32 %r3, %r2, 16, 31, -1;
@%p1 bra $L__BB0_2;
bar.sync 0;
@%p2 bra $L__BB0_1;
ret;
}
"""


def test_instructions_are_counted_loop_by_loop(module, tmp_path):
    instructions = module("device.instructions")
    (tmp_path / "a.ptx").write_text(PTX)
    assert instructions.of_kernel(tmp_path, "other") == []
    whole, outer, inner = instructions.of_kernel(tmp_path, "mine")
    assert whole == (0, 2, 0, 0, 0)
    assert outer == (1, 4, 0, 1, 1)
    assert inner == (2, 2, 1, 0, 0)


def test_what_ptxas_says_of_a_kernel(module, monkeypatch, tmp_path):
    target = module("device.target")
    assembler = tmp_path / "ptxas"
    assembler.write_text(
        "#!/bin/sh\n"
        "echo \"ptxas info    : Compiling entry function 'my_kernel' for 'sm_90a'\" >&2\n"
        "echo '    152 bytes stack frame, 152 bytes spill stores, 100 bytes spill loads' >&2\n"
        "echo 'ptxas info    : Used 255 registers, used 0 barriers' >&2\n"
    )
    assembler.chmod(0o755)
    monkeypatch.setattr(target, "ptxas", lambda: str(assembler))
    (tmp_path / "module.1.ptx").write_text(".visible .entry my_kernel(\n")
    (tmp_path / "module.2.ptx").write_text(".visible .entry another(\n")
    (tmp_path / "module.thunk_sequence.txt").write_text(
        "002: kCustomKernel [..] my_kernel grid: [2048, 1, 1] threads: [32, 1, 1]  "
        "shared_memory: 64 bytes\n"
    )
    expected = target.Kernel("my_kernel", registers=255, spilled=252, shared=64, threads=32)
    assert target.kernels(tmp_path, {"my_kernel"}) == [expected]
    monkeypatch.setattr(target, "ptxas", lambda: None)
    assert target.kernels(tmp_path, {"my_kernel"}) == []


def test_a_missing_plugin_is_named_with_the_command(module, monkeypatch):
    target = module("device.target")
    monkeypatch.setattr(target, "installed", lambda name: False)
    command = "pip install jax-cuda12-plugin==0.9 jax-cuda12-pjrt==0.9 nvidia-cuda-nvcc-cu12"
    assert target.missing("h100", "0.9").endswith(command)
    assert target.missing("v5e", "0.9").endswith("pip install libtpu")
    monkeypatch.setattr(target, "installed", lambda name: True)
    assert target.missing("h100", "0.9") == target.missing("v5e", "0.9") == ""


def test_programs_are_chosen_by_parts_of_their_names(module):
    chosen = module("compiled").chosen
    assert chosen("ogae step") == ["OgAE step, batch 100"]
    assert len(chosen("step, duals")) == 5
    assert len(chosen("")) == len(module("device.programs").PROGRAMS)
