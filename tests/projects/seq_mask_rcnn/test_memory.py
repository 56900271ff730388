import pytest
import torch

from projects.seq_mask_rcnn.memory import MemoryBank
from projects.seq_mask_rcnn.propagation import read_memory, read_memory_by_chunks, soft_aggregate


def entries(num: int, num_objects: int = 2):
    generator = torch.Generator().manual_seed(0)

    def normal(width):
        return torch.randn(num, num_objects, 1, 12, width, generator=generator)

    return list(zip(normal(8), normal(16)))


QUERY = torch.randn(1, 8, 3, 4, generator=torch.Generator().manual_seed(1))


def read_literally(pairs, query_key):
    """Softmax of every query over all entries' positions, with the whole matrix."""
    keys, values = (torch.cat(x, dim=1).flatten(1, 2) for x in zip(*pairs))  # (N, M * S, D or E)
    affinity = (keys @ query_key.flatten(2)) / keys.shape[2] ** 0.5  # (N, M * S, S)
    return (values.transpose(1, 2) @ affinity.softmax(dim=1)).unflatten(2, query_key.shape[2:])


def test_reading_is_attention_over_all_entries():
    pairs = entries(3)
    keys, values = (torch.cat(x, dim=1) for x in zip(*pairs))
    expected = read_literally(pairs, QUERY)
    torch.testing.assert_close(read_memory(keys, values, QUERY), expected)  # with gradient
    chunked, shares = read_memory_by_chunks(keys, values, QUERY)
    torch.testing.assert_close(chunked, expected)
    assert shares.shape == (3,) and shares.sum().item() == pytest.approx(1)
    with torch.no_grad():
        torch.testing.assert_close(read_memory(keys, values, QUERY), expected)


@torch.no_grad()
def test_without_cap_everything_is_kept():
    pairs = entries(5)
    bank = MemoryBank(*pairs[0], frame=0, size=5)
    for t, pair in enumerate(pairs[1:], start=1):
        bank.append(*pair, t)
        torch.testing.assert_close(bank.read(QUERY), read_literally(pairs[: t + 1], QUERY))
    torch.testing.assert_close(bank.read(QUERY, slice(1, 2)), read_literally(pairs, QUERY)[1:])


@torch.no_grad()
@pytest.mark.parametrize("rule", ["even", "least_used"])
@pytest.mark.parametrize("cap", [1, 2, 4])
def test_cap_keeps_the_first_and_the_newest(rule, cap):
    pairs = entries(12)
    bank = MemoryBank(*pairs[0], frame=20, size=cap, rule=rule)
    for t, pair in enumerate(pairs[1:], start=1):
        bank.read(QUERY)
        bank.append(*pair, 20 - t)
        assert bank.frames[0] == 20 and len(bank) <= cap and len(set(bank.frames)) == len(bank)
        assert cap == 1 or 20 - t in bank.frames
        torch.testing.assert_close(bank.read(QUERY), read_literally([pairs[20 - f] for f in bank.frames], QUERY))


def test_even_spacing():
    pairs = entries(13)
    bank = MemoryBank(*pairs[0], frame=0, size=5, rule="even")
    for t, pair in enumerate(pairs[1:], start=1):
        bank.append(*pair, t)
    gaps = [b - a for a, b in zip(sorted(bank.frames), sorted(bank.frames)[1:])]
    assert sum(gaps) == 12 and max(gaps) <= 5


@torch.no_grad()
def test_the_least_used_entry_goes():
    pairs = entries(4)
    fitting = QUERY.flatten(2).transpose(1, 2)[:, None].expand(2, -1, -1, -1)
    keys = [fitting, 4 * fitting, -4 * fitting, fitting]  # the third is what no query looks for
    bank = MemoryBank(keys[0], pairs[0][1], 0, size=3, rule="least_used")
    for t in (1, 2):
        bank.append(keys[t], pairs[t][1], t)
    bank.read(QUERY)
    bank.append(keys[3], pairs[3][1], 3)
    assert bank.frames == [0, 1, 3]


def test_objects_compete_for_pixels():
    logits, soft = soft_aggregate(torch.tensor([[[0.9, 0.1, 0.0]], [[0.6, 0.2, 1.0]]]))
    torch.testing.assert_close(soft.sum(dim=0), torch.ones(1, 3))
    assert soft.argmax(dim=0).tolist() == [[1, 0, 2]]
    assert logits.max().item() == pytest.approx(15.94, abs=0.01) and logits.min().item() == pytest.approx(
        -16.12, abs=0.01
    )
