import copy
import json
import pickle

import numpy as np
import pytest
import torch
from detectron2.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    ImageList,
    Instances,
    PolygonMasks,
    ROIMasks,
    pairwise_ioa,
    pairwise_iou,
    polygons_to_bitmask,
)
from detectron2.structures.boxes import matched_pairwise_iou, pairwise_intersection, pairwise_point_box_distance
from hypothesis import given, settings
from hypothesis import strategies as st

CORNERS = st.lists(st.integers(0, 40), min_size=4, max_size=4)


@st.composite
def box_lists(draw, max_size=5):
    boxes = draw(st.lists(CORNERS, min_size=1, max_size=max_size))
    return [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in boxes]


class TestBoxMode:
    @pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor])
    def test_converts_and_keeps_the_type(self, make):
        box = make([5.0, 6.0, 15.0, 26.0])
        converted = BoxMode.convert(box, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        assert type(converted) is type(box) and list(converted) == [5.0, 6.0, 10.0, 20.0]
        assert list(box) == [5.0, 6.0, 15.0, 26.0]
        back = BoxMode.convert(converted, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        assert list(back) == list(box)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_keeps_the_dtype_of_many_boxes(self, dtype):
        boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=dtype)
        converted = BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        assert converted.dtype == dtype
        np.testing.assert_array_equal(converted, [[1, 2, 4, 6], [5, 6, 12, 14]])

    def test_same_mode_is_the_same_object(self):
        box = [1, 2, 3, 4]
        assert BoxMode.convert(box, BoxMode.XYXY_REL, BoxMode.XYXY_REL) is box

    def test_rotated_boxes(self):
        boxes = torch.tensor([[50, 40, 30, 20, 0], [50, 40, 30, 20, 90], [50, 40, 20, 20, 45]], dtype=torch.float64)
        r = 200**0.5
        hull = torch.tensor([[35, 30, 65, 50], [40, 25, 60, 55], [50 - r, 40 - r, 50 + r, 40 + r]], dtype=torch.float64)
        torch.testing.assert_close(BoxMode.convert(boxes, BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS), hull)
        assert BoxMode.convert([1.0, 2, 4, 6], BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS) == [3, 5, 4, 6, 0]

    def test_refusals(self):
        with pytest.raises(AssertionError):
            BoxMode.convert([0.1, 0.1, 0.2, 0.2], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)
        with pytest.raises(AssertionError):
            BoxMode.convert([1, 2, 3], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        with pytest.raises(NotImplementedError):
            BoxMode.convert([1, 2, 3, 4, 5], BoxMode.XYWHA_ABS, BoxMode.XYWH_ABS)

    def test_json(self):
        assert json.dumps({"mode": BoxMode.XYWH_ABS}) == '{"mode": 1}'


class TestBoxes:
    def test_construction(self):
        assert Boxes([[1, 2, 3, 4]]).tensor.dtype == torch.float32
        assert Boxes(torch.zeros(2, 4, dtype=torch.float64)).tensor.dtype == torch.float32
        for empty in ([], torch.empty(0), torch.empty(0, 4), np.zeros((0, 4))):
            assert Boxes(empty).tensor.shape == (0, 4)
        with pytest.raises(AssertionError):
            Boxes([1, 2, 3, 4])
        with pytest.raises(AssertionError):
            Boxes(torch.zeros(2, 5))

    def test_geometry(self):
        b = Boxes([[0.0, 0, 10, 5], [3, 4, 3, 8], [-5, -5, 30, 40]])
        assert b.area().tolist() == [50, 0, 35 * 45]
        assert b.nonempty().tolist() == [True, False, True]
        assert b.nonempty(threshold=5).tolist() == [False, False, True]
        assert b.get_centers().tolist() == [[5, 2.5], [3, 6], [12.5, 17.5]]
        assert b.inside_box((20, 25)).tolist() == [True, True, False]
        assert b.inside_box((40, 30), boundary_threshold=5).tolist() == [True, True, True]
        assert b.inside_box((8, 10)).tolist() == [False, False, False]  # the high sides are exclusive
        b.clip((20, 25))
        assert b.tensor[2].tolist() == [0, 0, 25, 20]
        b.scale(2, 3)
        assert b.tensor[2].tolist() == [0, 0, 50, 60]

    def test_clip_refuses_nan_and_inf(self):
        for bad in (float("nan"), float("inf")):
            with pytest.raises(AssertionError):
                Boxes([[0, 0, bad, 1]]).clip((4, 4))

    def test_indexing_and_iteration(self):
        b = Boxes(torch.arange(12.0).view(3, 4))
        assert b[1].tensor.tolist() == b[-2].tensor.tolist() == [[4, 5, 6, 7]]
        assert len(b[1:]) == 2 and len(b[torch.tensor([True, False, True])]) == 2 and len(b[torch.tensor([2, 2])]) == 2
        assert [t.tolist() for t in b] == b.tensor.tolist()
        assert Boxes.cat([b, b[0]]).tensor.shape == (4, 4) and Boxes.cat([]).tensor.shape == (0, 4)
        assert b.to("cpu").device == torch.device("cpu")
        clone = b.clone()
        clone.scale(2, 2)
        assert b.tensor[0].tolist() == [0, 1, 2, 3]
        assert str(Boxes([[1, 2, 3, 4]])) == "Boxes(tensor([[1., 2., 3., 4.]]))"

    def test_iou_by_hand(self):
        a, b = (
            Boxes([[0, 0, 1, 1], [0, 0, 1, 1]]),
            Boxes([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0.5, 1.5, 1.5], [2, 2, 3, 3]]),
        )
        torch.testing.assert_close(pairwise_iou(a, b), torch.tensor([[1, 0.5, 0.25 / 1.75, 0]] * 2))
        torch.testing.assert_close(pairwise_ioa(a, b), torch.tensor([[1, 1, 0.25, 0]] * 2))
        torch.testing.assert_close(matched_pairwise_iou(a, b[1:3]), torch.tensor([0.5, 0.25 / 1.75]))
        with pytest.raises(AssertionError):
            matched_pairwise_iou(a, b)

    @settings(max_examples=30, deadline=None)
    @given(box_lists(), box_lists())
    def test_overlap_of_integer_boxes_is_a_pixel_count(self, list1, list2):
        def pixels(box):
            m = np.zeros((40, 40), dtype=bool)
            m[box[1] : box[3], box[0] : box[2]] = True
            return m

        inter = np.array([[(pixels(p) & pixels(q)).sum() for q in list2] for p in list1])
        union = np.array([[(pixels(p) | pixels(q)).sum() for q in list2] for p in list1])
        a, b = Boxes(list1), Boxes(list2)
        np.testing.assert_array_equal(pairwise_intersection(a, b).numpy(), inter)
        np.testing.assert_allclose(pairwise_iou(a, b).numpy(), inter / np.maximum(union, 1), rtol=1e-6)

    def test_point_distances(self):
        d = pairwise_point_box_distance(torch.tensor([[2.0, 3.0], [0.0, 0.0]]), Boxes([[1, 1, 5, 9]]))
        assert d.tolist() == [[[1, 2, 3, 6]], [[-1, -1, 5, 9]]]


class TestInstances:
    def make(self):
        return Instances(
            (4, 5), scores=torch.tensor([0.5, 0.25, 0.75]), boxes=Boxes(torch.eye(4)[:3]), tags=["a", "b", "c"]
        )

    def test_fields(self):
        i = self.make()
        i.extra = torch.zeros(3, 2)
        assert i.has("extra") and i.extra is i.get("extra") and i.image_size == (4, 5)
        i.get_fields()["more"] = [1, 2, 3]
        assert i.more == [1, 2, 3]
        i.remove("more")
        assert not i.has("more")
        with pytest.raises(AssertionError):
            i.wrong = [1]
        with pytest.raises(AttributeError):
            i.wrong  # noqa: B018

    @pytest.mark.parametrize(
        ("item", "tags"),
        [(0, "a"), (-1, "c"), (np.int64(1), "b"), (slice(1, None), "bc"), (slice(None, None, 2), "ac")],
    )
    def test_index_with_ints_and_slices(self, item, tags):
        part = self.make()[item]
        assert "".join(part.tags) == tags and len(part.boxes) == len(part) == len(tags)
        assert part.scores.tolist() == [{"a": 0.5, "b": 0.25, "c": 0.75}[t] for t in tags]

    def test_index_with_tensors(self):
        i = self.make()
        with pytest.raises(TypeError):
            i[torch.tensor([True, False, True])]  # python lists cannot
        i.remove("tags")
        assert i[torch.tensor([True, False, True])].scores.tolist() == [0.5, 0.75]
        assert i[i.scores.argsort(descending=True)].scores.tolist() == [0.75, 0.5, 0.25]
        for bad in (3, -4):
            with pytest.raises(IndexError):
                i[bad]

    def test_cat(self):
        i = self.make()
        assert Instances.cat([i]) is i
        both = Instances.cat([i, i[1:]])
        assert both.tags == ["a", "b", "c", "b", "c"] and len(both.boxes) == 5
        with pytest.raises(AssertionError):
            Instances.cat([i, Instances((9, 9), scores=torch.zeros(1))])
        with pytest.raises(ValueError):
            Instances.cat([Instances((1, 1), x=(1, 2)), Instances((1, 1), x=(1, 2))])

    def test_copies_and_pickles(self):
        i = self.make()
        for other in (copy.deepcopy(i), pickle.loads(pickle.dumps(i)), i.to("cpu")):
            assert other.tags == i.tags and torch.equal(other.scores, i.scores) and other.image_size == i.image_size
        i.remove("boxes")
        assert i.to(torch.float64).scores.dtype == torch.float64 and i.to(torch.float64).tags == i.tags

    def test_without_fields(self):
        i = Instances((2, 3))
        assert str(i) == "Instances(num_instances=0, image_height=2, image_width=3, fields=[])"
        with pytest.raises(NotImplementedError):
            len(i)


class TestBitMasks:
    def test_boxes_are_tight(self):
        rng = np.random.RandomState(0)
        masks = rng.uniform(size=(20, 9, 11)) > 0.9
        masks[3] = False
        boxes = BitMasks(masks).get_bounding_boxes().tensor.numpy()
        for mask, box in zip(masks, boxes):
            ys, xs = mask.nonzero()
            expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]
            assert box.tolist() == expected
        assert BitMasks(np.zeros((0, 9, 11))).get_bounding_boxes().tensor.shape == (0, 4)

    def test_indexing(self):
        m = BitMasks(torch.arange(24).view(2, 3, 4) % 5)
        assert m.tensor.dtype == torch.bool and m.image_size == (3, 4) and len(m) == 2
        assert m[0].tensor.shape == m[-1].tensor.shape == (1, 3, 4)
        assert len(m[torch.tensor([True, False])]) == 1 and len(m[torch.tensor([1, 1, 0])]) == 3 and len(m[:0]) == 0
        assert [t.shape for t in m] == [(3, 4), (3, 4)]
        assert len(BitMasks.cat([m, m[0]])) == 3
        assert m.nonempty().tolist() == [True, True]
        with pytest.raises(AssertionError):
            BitMasks(torch.zeros(3, 4))

    def test_crop_of_the_whole_image_is_the_image(self):
        m = BitMasks(torch.from_numpy(np.random.RandomState(1).uniform(size=(3, 8, 8)) > 0.5))
        box = torch.tensor([[0.0, 0, 8, 8]]).expand(3, 4)
        assert torch.equal(m.crop_and_resize(box, 8), m.tensor)
        assert m[:0].crop_and_resize(box[:0], 8).shape == (0, 8, 8)

    def test_from_polygons(self):
        polygons = [[np.array([1.0, 1, 5, 1, 5, 4, 1, 4])], []]
        masks = BitMasks.from_polygon_masks(PolygonMasks(polygons), 6, 8)
        assert masks.tensor.sum((1, 2)).tolist() == [12, 0]
        assert torch.equal(masks.tensor, BitMasks.from_polygon_masks(polygons, 6, 8).tensor)
        assert len(BitMasks.from_polygon_masks([], 6, 8)) == 0


class TestPolygonMasks:
    SQUARE = [1.0, 1, 5, 1, 5, 4, 1, 4]

    def make(self):
        return PolygonMasks(
            [[np.array(self.SQUARE)], [], [np.array([0.0, 0, 4, 0, 4, 4]), torch.tensor([6.0, 0, 8, 0, 8, 2])]]
        )

    def test_properties(self):
        p = self.make()
        assert p.area().tolist() == [12, 0, 8 + 2] and p.nonempty().tolist() == [True, False, True]
        boxes = p.get_bounding_boxes()
        assert boxes.tensor[0].tolist() == [1, 1, 5, 4] and boxes.tensor[2].tolist() == [0, 0, 8, 4]
        assert boxes.nonempty().tolist() == [True, False, True]
        assert p.to("cpu") is p and p.device == torch.device("cpu")

    @pytest.mark.parametrize(
        "item",
        [slice(1, 3), [1, 2], torch.tensor([False, True, True]), torch.tensor([1, 2]), torch.tensor([1, 2]).int()],
    )
    def test_indexing(self, item):
        assert [len(x) for x in self.make()[item]] == [0, 2]

    def test_more_indexing(self):
        p = self.make()
        assert len(p[0]) == 1 and len(p[torch.zeros(3, dtype=torch.bool)]) == 0
        assert [len(x) for x in PolygonMasks.cat([p, p[2]])] == [1, 0, 2, 2]
        with pytest.raises(ValueError):
            p[torch.tensor([0.0, 1.0])]

    @pytest.mark.parametrize("bad", [np.zeros((1, 1, 8)), [np.zeros(8)], [[np.zeros(4)]], [[np.zeros(7)]]])
    def test_refuses_wrong_nesting_and_lengths(self, bad):
        with pytest.raises(ValueError):
            PolygonMasks(bad)

    def test_crop_and_resize(self):
        p = PolygonMasks([[np.array(self.SQUARE)]] * 2)
        crops = p.crop_and_resize(torch.tensor([[1.0, 1, 5, 4], [3, 1, 7, 4]]), 8)
        assert crops.dtype == torch.bool and crops[0].all()
        assert crops[1, :, :4].all() and not crops[1, :, 4:].any()
        assert p[:0].crop_and_resize(torch.zeros(0, 4), 8).shape == (0, 8, 8)
        assert not p[:1].crop_and_resize(torch.tensor([[9.0, 9, 9, 9]]), 8).any()  # a box without area
        assert p.polygons[0][0].tolist() == self.SQUARE

    def test_no_polygons_make_an_empty_bitmask(self):
        assert polygons_to_bitmask([], 3, 4).shape == (3, 4) and not polygons_to_bitmask([], 3, 4).any()


def test_roi_masks():
    m = ROIMasks(torch.ones(3, 4, 4))
    assert len(m) == 3 and len(m[:2]) == 2 and m.to("cpu").device == torch.device("cpu")
    pasted = m.to_bitmasks(Boxes([[0, 0, 4, 4], [2, 2, 6, 6], [4, 4, 20, 20]]), 8, 8)
    assert isinstance(pasted, BitMasks)
    assert pasted.get_bounding_boxes().tensor.tolist() == [[0, 0, 4, 4], [2, 2, 6, 6], [4, 4, 8, 8]]


class TestImageList:
    def test_padding_and_views(self):
        images = [torch.full((3, 5, 7), 1.0), torch.full((3, 6, 4), 2.0)]
        il = ImageList.from_tensors(images, size_divisibility=4, pad_value=9.0)
        assert il.tensor.shape == (2, 3, 8, 8) and il.image_sizes == [(5, 7), (6, 4)] and len(il) == 2
        assert torch.equal(il[0], images[0]) and torch.equal(il[1], images[1])
        assert (il.tensor[0, :, 5:] == 9).all() and (il.tensor[1, :, :, 4:] == 9).all()
        assert il.to(torch.float64).tensor.dtype == torch.float64 and il.device == torch.device("cpu")

    def test_one_image_is_copied(self):
        image = torch.zeros(3, 8, 8)
        il = ImageList.from_tensors([image], 4)
        il.tensor += 1
        assert not image.any()

    @pytest.mark.parametrize(
        ("constraints", "side"),
        [({"square_size": 30}, 32), ({"square_size": 0}, 16), ({"square_size": 30, "size_divisibility": 10}, 30)],
    )
    def test_constraints(self, constraints, side):
        for n in (1, 2):
            il = ImageList.from_tensors([torch.zeros(3, 9, 12)] * n, 16, padding_constraints=constraints)
            assert il.tensor.shape == (n, 3, side, side)

    def test_refusals(self):
        with pytest.raises(AssertionError):
            ImageList.from_tensors([])
        with pytest.raises(AssertionError):
            ImageList.from_tensors([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)])
