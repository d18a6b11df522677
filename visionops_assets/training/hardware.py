"""What the machine can do, where it changes the bits of a training.

torch is imported where it is asked: which kernels it takes can be chosen only before.
"""

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

# oneDNN's names, best first, with the processor flag that each needs last of all.
_ONEDNN_ISA = (
    ("avx512_core_amx", "amx_bf16"),
    ("avx512_core_bf16", "avx512_bf16"),
    ("avx512_core_vnni", "avx512_vnni"),
    ("avx512_core", "avx512bw"),
    ("avx2_vnni", "avx_vnni"),
    ("avx2", "avx2"),
    ("avx", "avx"),
    ("sse41", "sse4_1"),
)


def fast_bf16() -> bool:
    """Say whether the device that `accelerator="auto"` takes multiplies bfloat16 in hardware."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets the processor names, empty where the system does not say."""
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features")).split())


def onednn_isa() -> str:
    """Return the best instruction set that oneDNN knows for this processor's flags."""
    return next((name for name, flag in _ONEDNN_ISA if flag in cpu_flags()), "unknown")


def kernel_settings(recorded: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which this machine takes the kernels of a machine as `describe` told it.

    Only what this machine could do too is asked for: it never pretends to be a better one.
    """
    settings = {}
    capability = recorded.get("aten_cpu_capability", "").lower()
    if capability == "default" or (capability == "avx2" and "avx2" in cpu_flags()):
        settings["ATEN_CPU_CAPABILITY"] = capability
    isa = recorded.get("onednn_isa", "")
    if isa != onednn_isa() and any(isa == name and flag in cpu_flags() for name, flag in _ONEDNN_ISA):
        settings["ONEDNN_MAX_CPU_ISA"] = isa.upper()
    if recorded.get("device") == "cpu":
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return settings


def describe() -> dict[str, str]:
    """Return what a reproduction compares: machine, processor, device, and the kernels chosen for them.

    `onednn_isa` is the best set that oneDNN picks for the processor's flags, or what ONEDNN_MAX_CPU_ISA asks for.
    """
    import torch

    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _cpuinfo("model name") or platform.processor() or "unknown",
        "aten_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", onednn_isa()).lower(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


@cache
def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == field), "")
