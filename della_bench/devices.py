"""Whether a device is there, asked before anything is put on it."""

from __future__ import annotations

from typing import Any

from della_bench.errors import UsageError

__all__ = ["require_device"]


def require_device(name: Any) -> None:
    """Raise UsageError unless torch can compute on the device `name` (a string or a torch.device) on this machine.

    lm-eval takes the CPU, without a word, where the device that was asked for is not there.
    """
    if str(name) == "cpu":  # the usual one: torch takes long to import
        return
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device; such as cpu, cuda or cuda:1", argument="device") from error
    if device.type == "cpu":
        return
    module = getattr(torch, device.type, None) or getattr(torch.backends, device.type, None)
    if module is None or not hasattr(module, "is_available") or not module.is_available():
        raise UsageError(f"{name}: torch sees no such device on this machine", argument="device")
    count = module.device_count() if hasattr(module, "device_count") else 1
    if (device.index or 0) >= count:
        seen = f"{device.type}:0" if count == 1 else f"{device.type}:0 to {device.type}:{count - 1}"
        raise UsageError(f"{name}: torch sees {seen} on this machine", argument="device")
