"""The CUDA kernels without a GPU: interpreted on the CPU, and compiled for GPUs that are not there."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

triton = pytest.importorskip("triton", reason="Triton has no package for this platform")

CASES = Path(__file__).with_name("triton_interpreter_cases.py")


@pytest.mark.skipif(
    triton.__version__.startswith("3.0.") and int(np.__version__.split(".")[0]) >= 2,
    reason="the interpreter of Triton 3.0 (torch 2.4) stores nothing with numpy 2",
)
def test_kernels_in_the_interpreter():
    """In a process of its own: Triton reads TRITON_INTERPRET once, when it is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=CASES.parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


PIXEL_DECODER = dict(M=8, D=32, L=3, P=4, BLOCK_Q=32, BLOCK_D=32)
ODD = dict(M=2, D=6, L=1, P=1, BLOCK_Q=32, BLOCK_D=8)


@pytest.mark.parametrize(
    ("value_type", "sizes", "capability"),
    [("*fp32", PIXEL_DECODER, 90), ("*bf16", PIXEL_DECODER, 80), ("*fp16", ODD, 75), ("*fp64", ODD, 90)],
)
def test_kernels_compile_for_cuda(value_type, sizes, capability, tmp_path, monkeypatch):
    """What the interpreter accepts the compiler may refuse."""
    from triton.backends.compiler import GPUTarget

    from vis_core.ops import deform_attn_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    full = "*fp64" if value_type == "*fp64" else "*fp32"
    constants = {**sizes, "SUM_TYPE": triton.language.float64 if full == "*fp64" else triton.language.float32}
    tensors = {"value": value_type, "locations": full, "weights": full, "levels": "*i32"}
    numbers = {"num_tokens": "i32", "num_queries": "i32"} | dict.fromkeys(constants, "constexpr")
    forward = tensors | {"out": value_type} | numbers
    sums = {"grad_value": full, "grad_locations": full, "grad_weights": full}
    backward = {"grad": value_type} | tensors | sums | numbers
    for kernel, signature in (
        (deform_attn_triton._forward_kernel, forward),
        (deform_attn_triton._backward_kernel, backward),
    ):
        source = source_of(kernel, signature, constants)
        assert ".entry" in triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]


def source_of(kernel, signature: dict[str, str], constants: dict):
    from triton.compiler import ASTSource

    if "constexprs" in inspect.signature(ASTSource).parameters:
        return ASTSource(fn=kernel, signature=signature, constexprs=constants)
    places = {name: place for place, name in enumerate(kernel.arg_names)}  # Triton 3.0 and 3.1
    types = {places[name]: kind for name, kind in signature.items() if name not in constants}
    return ASTSource(fn=kernel, signature=types, constants={places[name]: x for name, x in constants.items()})
