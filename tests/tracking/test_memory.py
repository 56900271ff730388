import torch

from vis_core.tracking import ExemplarMemory


def fields(*values):
    x = torch.tensor(values, dtype=torch.float32)
    return {"boxes": x[:, None].expand(-1, 4), "labels": x.long()}


def test_new_objects_are_appended_and_known_ones_overwritten():
    memory = ExemplarMemory()
    memory.update([0, 1], 0, fields(10, 11))
    memory.update([1, 2], 3, fields(21, 22))
    assert len(memory) == 3
    assert memory.ids == [0, 1, 2]
    assert memory.last_frames == [0, 3, 3]
    assert memory["labels"].tolist() == [10, 21, 22]
    assert memory["boxes"][:, 0].tolist() == [10, 21, 22]


def test_of_a_repeated_id_the_last_one_stays():
    memory = ExemplarMemory()
    memory.update([0, 0, 1], 0, fields(1, 2, 3))
    assert memory.ids == [0, 1]
    assert memory["labels"].tolist() == [2, 3]
    memory.update([1, 0, 1], 1, fields(4, 5, 6))
    assert memory["labels"].tolist() == [5, 6]


def test_write_once_keeps_the_first_value():
    memory = ExemplarMemory()
    memory.update([0, 0], 0, fields(1, 2), write_once=("labels",))
    memory.update([0], 1, fields(3), write_once=("labels",))
    assert memory["labels"].tolist() == [1]
    assert memory["boxes"][0, 0].item() == 3


def test_eviction_goes_by_the_last_frame():
    memory = ExemplarMemory()
    memory.update([0, 1], 0, fields(1, 2))
    memory.update([1], 5, fields(3))
    memory.evict(19, 20)
    assert memory.ids == [0, 1]
    memory.evict(20, 20)
    assert memory.ids == [1]
    assert memory["labels"].tolist() == [3]
    memory.evict(25, 20)
    assert len(memory) == 0
    memory.update([7], 26, fields(9))  # an emptied memory takes objects again
    assert memory.ids == [7] and memory["labels"].tolist() == [9]


def test_an_empty_update_changes_nothing():
    memory = ExemplarMemory()
    memory.update([], 0, {"boxes": torch.zeros(0, 4)})
    assert len(memory) == 0


def test_stored_values_do_not_follow_the_callers_tensor():
    memory, values = ExemplarMemory(), fields(1, 2)
    memory.update([0, 1], 0, values)
    values["labels"][0] = 99
    assert memory["labels"].tolist() == [1, 2]
