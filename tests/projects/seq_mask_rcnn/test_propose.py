import pytest
import torch

from projects.seq_mask_rcnn.propose import distinct_masks, key_frames, memory_step


@pytest.mark.parametrize("rule", ["released", "even", "paper"])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 7, 62, 180])
@pytest.mark.parametrize("key_num", [1, 2, 5, 8])
def test_key_frames_lie_in_the_video(rule, num_frames, key_num):
    frames = key_frames(num_frames, key_num, rule)
    assert frames == sorted(frames) and frames[0] >= 0 and frames[-1] < num_frames
    assert 1 <= len(frames) <= key_num
    if rule == "even" and key_num > 1:
        assert frames[0] == 0 and frames[-1] == num_frames - 1 and len(frames) == key_num


def test_rules_differ_where_they_should():
    assert key_frames(62, 8, "released")[-1] == 60  # 8.714... * 7 is 60.99... in floats
    assert key_frames(62, 8, "even")[-1] == 61
    assert key_frames(10, 5, "paper") == [0, 2, 4, 6, 8]
    assert key_frames(2, 5, "paper") == [0, 1]
    assert key_frames(9, 1) == [4]


@pytest.mark.parametrize(("mem_step", "mem_num", "step"), [(1, 0, 1), (5, 0, 5), (0, 10, 3), (0, 50, 1)])
def test_memory_step(mem_step, mem_num, step):
    assert memory_step(36, mem_step, mem_num) == step


def test_distinct_masks_counts_equal_as_overlap():
    masks = torch.zeros(3, 10, 10, dtype=torch.bool)
    masks[0, :6], masks[1, 4:], masks[2, 5:] = True, True, True  # 20 of 100, 10 of 100 pixels common with the first
    assert distinct_masks(masks, 0.2) == [0, 2]
    assert distinct_masks(masks, 0.21) == [0, 1]  # the third lies in the second


def test_distinct_masks_keeps_all_empty_ones():
    assert distinct_masks(torch.zeros(3, 4, 4, dtype=torch.bool), 0.2) == [0, 1, 2]
    assert distinct_masks(torch.zeros(0, 4, 4, dtype=torch.bool), 0.2) == []
