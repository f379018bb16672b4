"""Random bits that depend on seed, expert and tensor alone: Philox-4x32-10 in counter mode.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", doi:10.1145/2063384.2063405. No global generator is
read or moved, so a mask cannot depend on what was computed before it, on the device or on the number of threads.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["philox_4x32", "tensor_key", "words"]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def tensor_key(seed: int, expert: int, name: str) -> int:
    """Return the 64-bit Philox key of one tensor of one expert.

    It is the first 8 bytes, little-endian, of SHA-256 over the seed, a NUL, the expert's position (from 0), a NUL and
    the tensor's name in the base's checkpoint; numbers in decimal, text in UTF-8.
    """
    digest = hashlib.sha256(f"{seed}\0{expert}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def philox_4x32(counter: tuple[torch.Tensor, ...], key: int, rounds: int = 10) -> tuple[torch.Tensor, ...]:
    """Run Philox on counters of four 32-bit words, each held in an int64 tensor; returns four such tensors."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & _LOW, key >> 32
    for _ in range(rounds):
        # A product of two 32-bit words wraps in int64, but its 64 bits are the right ones.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _LOW) ^ c1 ^ k0,
            p1 & _LOW,
            ((p0 >> 32) & _LOW) ^ c3 ^ k1,
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def words(key: int, n: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return n random words in [0, 2^32) as an int64 tensor: element i is word i mod 4 of counter i div 4."""
    import torch

    index = torch.arange((n + 3) // 4, dtype=torch.int64, device=device)
    zero = torch.zeros_like(index)
    lanes = philox_4x32((index & _LOW, index >> 32, zero, zero), key)
    return torch.stack(lanes, dim=1).reshape(-1)[:n]
