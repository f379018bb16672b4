from __future__ import annotations

import hashlib

import pytest
import torch

from della_bench.merge import bits
from tests.merge import oracle

LOW = 2**32 - 1

# The three lines "philox4x32 10" of Random123's kat_vectors: counter, key, output.
KNOWN = [
    "00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd",
    "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1",
]


def parsed(line):
    words = [int(word, 16) for word in line.split()]
    return tuple(words[:4]), tuple(words[4:6]), tuple(words[6:])


def philox(counter, key):
    found = bits.philox_4x32(tuple(torch.tensor([word]) for word in counter), key[0] | key[1] << 32)
    return tuple(int(word) for word in found)


@pytest.mark.parametrize("line", KNOWN)
def test_philox_gives_the_published_answers(line):
    counter, key, expected = parsed(line)
    assert philox(counter, key) == expected
    assert oracle.philox(counter, key) == expected


def test_many_counters_at_once_are_as_each_alone():
    counters = [parsed(line)[0] for line in KNOWN]
    key = (0x12345678, 0x9ABCDEF0)
    columns = tuple(torch.tensor(column) for column in zip(*counters, strict=True))
    found = torch.stack(bits.philox_4x32(columns, key[0] | key[1] << 32), dim=1)
    assert found.tolist() == [list(oracle.philox(counter, key)) for counter in counters]


def test_key_is_the_digests_first_8_bytes_little_endian():
    name = "model.layers.0.mlp.up_proj.weight"
    digest = hashlib.sha256(b"42\x001\x00" + name.encode()).digest()
    assert bits.tensor_key(42, 1, name) == sum(byte << 8 * i for i, byte in enumerate(digest[:8]))
    assert bits.tensor_key(42, 1, name) == 0xEACE5519595DA3C3
    low, high = oracle.key_of(42, 1, name)
    assert bits.tensor_key(42, 1, name) == low | high << 32


def test_key_takes_a_name_as_utf_8_and_a_seed_of_64_bits():
    digest = hashlib.sha256(b"18446744073709551615\x0010\x00w\xc3\xa4g").digest()
    assert bits.tensor_key(2**64 - 1, 10, "wäg") == int.from_bytes(digest[:8], "little")


def test_keys_differ_by_seed_expert_and_name():
    keys = {bits.tensor_key(seed, expert, name) for seed in (1, 11) for expert in (1, 11) for name in ("1", "11", "1a")}
    assert len(keys) == 12


def test_element_i_takes_word_i_mod_4_of_counter_i_div_4():
    key = bits.tensor_key(7, 2, "x")
    halves = (key & LOW, key >> 32)
    found = bits.words(key, 23).tolist()
    assert found == [oracle.philox((i // 4, 0, 0, 0), halves)[i % 4] for i in range(23)]


def test_words_do_not_depend_on_how_many_there_are():
    key = bits.tensor_key(42, 0, "x")
    longest = bits.words(key, 70_001)
    assert all(torch.equal(bits.words(key, n), longest[:n]) for n in (0, 1, 3, 4, 5, 64, 65_536))


def test_words_are_unsigned_32_bit_and_use_their_whole_range():
    found = bits.words(bits.tensor_key(42, 0, "x"), 100_000)
    assert found.dtype == torch.int64
    assert 0 <= int(found.min()) < 2**20
    assert 2**32 - 2**20 < int(found.max()) < 2**32


def test_a_counter_beyond_32_bits_goes_on_in_its_second_word():
    key = (1, 2)
    assert philox((5, 3, 0, 0), key) == oracle.philox((5, 3, 0, 0), key) != philox((5, 0, 0, 0), key)


def test_torchs_generator_is_neither_read_nor_moved():
    key = bits.tensor_key(42, 0, "x")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = bits.words(key, 100)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(bits.words(key, 100), first)
