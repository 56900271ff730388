import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from detectron2.utils.colormap import colormap, random_color, random_colors
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, GenericMask, Visualizer
from PIL import Image

H, W = 120, 160
RED = (1.0, 0.0, 0.0)


@pytest.fixture
def metadata():
    name = "test_visualizer_dataset"
    yield MetadataCatalog.get(name).set(thing_classes=["cat", "dog"], thing_colors=[[255, 0, 0], [0, 0, 255]])
    MetadataCatalog.remove(name)


def grey(value=128):
    return np.full((H, W, 3), value, dtype=np.uint8)


def box_mask(x0, y0, x1, y1):
    mask = np.zeros((H, W), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def instances(boxes, classes, masks=True, **extra):
    result = Instances((H, W))
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    result.scores = torch.full((len(boxes),), 0.9)
    result.pred_classes = torch.tensor(classes)
    if masks:
        result.pred_masks = torch.from_numpy(np.stack([box_mask(*b) for b in boxes]))
    for name, value in extra.items():
        result.set(name, value)
    return result


def changed(image, background=128):
    return (np.abs(image.astype(int) - background) > 3).any(axis=2)


# ---- colours


def test_table():
    table = colormap(rgb=True, maximum=1)
    assert table.shape[1] == 3 and len(table) >= 74
    distance = np.abs(table[:, None] - table[None]).max(axis=2) + 2 * np.eye(len(table))
    assert distance.min() > 0.02  # no two are alike
    np.testing.assert_allclose(colormap(), table[:, ::-1] * 255)


def test_random_colours():
    table = colormap(rgb=True, maximum=1)
    assert (np.asarray(random_color(rgb=True, maximum=1)) == table).all(axis=1).any()
    assert len(np.unique(random_colors(74, rgb=True, maximum=1), axis=0)) == 74


# ---- masks


def test_mask_conversions_agree():
    mask = box_mask(10, 20, 60, 70)
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    polygon = [10, 20, 60, 20, 60, 70, 10, 70]
    for given in (mask, rle, [polygon], [np.array(polygon)]):
        m = GenericMask(given, H, W)
        assert m.mask.shape == (H, W) and not m.has_holes and len(m.polygons) == 1
        assert m.area() == 2500
        np.testing.assert_array_equal(m.mask > 0, mask)
        np.testing.assert_allclose(m.bbox(), [10, 20, 60, 70], atol=1)


def test_uncompressed_rle():
    m = GenericMask({"size": [4, 5], "counts": [3, 6, 11]}, 4, 5)
    np.testing.assert_array_equal(m.mask.flatten(order="F"), [0] * 3 + [1] * 6 + [0] * 11)


def test_holes():
    mask = box_mask(10, 20, 60, 70)
    mask[30:40, 20:30] = False
    m = GenericMask(mask, H, W)
    assert m.has_holes and len(m.polygons) == 2 and m.area() == 2400


def test_empty_mask():
    m = GenericMask(np.zeros((H, W), dtype=bool), H, W)
    assert m.area() == 0 and len(m.polygons) == 0 and not m.has_holes


# ---- images


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_output_size(scale):
    image = Visualizer(grey(), scale=scale).get_output().get_image()
    assert image.shape == (int(H * scale), int(W * scale), 3) and image.dtype == np.uint8
    assert not changed(image).any()


@pytest.mark.parametrize("size", [(H, W), (57, 110)])  # 57 and 110 are not 100 times a float
def test_untouched_image_is_the_input(size):
    x = np.random.RandomState(0).randint(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_allclose(Visualizer(x).get_output().get_image().astype(int), x, atol=2)


def test_saved_file_is_the_image(tmp_path):
    output = Visualizer(grey()).draw_box([20, 30, 100, 90], edge_color="r")
    output.save(str(tmp_path / "a.png"))
    saved = np.array(Image.open(tmp_path / "a.png").convert("RGB"))
    np.testing.assert_allclose(saved.astype(int), output.get_image(), atol=2)


def test_binary_mask_is_blended():
    image = Visualizer(grey(100)).draw_binary_mask(box_mask(30, 40, 90, 80), RED, alpha=0.5).get_image()
    np.testing.assert_allclose(image[60, 60].astype(int), [177, 50, 50], atol=2)
    region = changed(image, 100)
    assert not region[:35].any() and not region[:, :25].any() and not region[85:].any() and not region[:, 95:].any()


def test_holes_stay_open():
    mask = box_mask(30, 40, 90, 80)
    mask[50:70, 50:70] = False
    image = Visualizer(grey()).draw_binary_mask(mask, RED).get_image()
    assert changed(image)[45, 40] and not changed(image)[55:65, 55:65].any()


def test_small_parts_are_left_out():
    mask = box_mask(30, 40, 90, 80)
    mask[5:7, 5:7] = True
    image = Visualizer(grey()).draw_binary_mask(mask, RED, area_threshold=10).get_image()
    assert changed(image)[60, 60] and not changed(image)[:15, :15].any()
    image = Visualizer(grey()).draw_binary_mask(mask, RED, area_threshold=0).get_image()
    assert changed(image)[4:8, 4:8].any()


def test_soft_mask():
    soft = np.tile(np.linspace(0, 1, W), (H, 1))
    image = Visualizer(grey(0)).draw_soft_mask(soft, RED, alpha=1.0).get_image()
    assert (np.diff(image[50, :, 0].astype(int)) >= 0).all() and image[50, 0, 0] < 5 and image[50, -1, 0] > 250


def test_primitives_leave_a_trace():
    def trace(draw):
        visualizer = Visualizer(grey())
        draw(visualizer)
        return changed(visualizer.get_output().get_image())

    box = trace(lambda v: v.draw_box([20, 30, 100, 90]))
    assert box[60, 20] and box[30, 60] and not box[60, 60]
    circle = trace(lambda v: v.draw_circle((40, 50), "r", radius=5))
    assert circle[50, 40] and circle[50, 44] and not circle[50, 50]
    line = trace(lambda v: v.draw_line([10, 110], [20, 20], "r"))
    assert line[18:23, 60].any() and not line[40:].any()
    polygon = trace(lambda v: v.draw_polygon(np.array([[10, 10], [60, 10], [10, 60]]), "r"))
    assert polygon[20, 20] and not polygon[58, 58]
    text = trace(lambda v: v.draw_text("word", (80, 60)))
    assert text[60:75, 70:90].any() and not text[:50].any()


def test_semantic_segmentation(metadata):
    labels = np.zeros((H, W), dtype=np.int64)
    labels[:, W // 2 :] = 1
    image = Visualizer(grey(0), metadata).draw_sem_seg(torch.from_numpy(labels), alpha=1.0).get_image()
    assert not np.array_equal(image[10, 20], image[10, 140])
    np.testing.assert_array_equal(image[10, 20], image[110, 20])


# ---- instances


@pytest.mark.parametrize("mode", list(ColorMode))
def test_predictions(metadata, mode):
    colourful = np.zeros((H, W, 3), dtype=np.uint8)
    colourful[..., 0], colourful[..., 2] = 200, 40
    found = instances([[20, 20, 70, 70], [90, 60, 140, 110]], [0, 1])
    image = Visualizer(colourful, metadata, instance_mode=mode).draw_instance_predictions(found).get_image()
    outside = image[5, 150].astype(int)
    if mode == ColorMode.IMAGE_BW:
        assert np.ptp(outside) <= 1
    else:
        np.testing.assert_allclose(outside, [200, 0, 40], atol=2)
    if mode == ColorMode.SEGMENTATION:
        assert image[60, 30, 0] > image[60, 30, 2] and image[100, 100, 2] > image[100, 100, 0]


def test_boxes_are_drawn_where_there_are_no_masks(metadata):
    found = instances([[20, 20, 70, 100]], [0], masks=False)
    region = changed(Visualizer(grey(), metadata).draw_instance_predictions(found).get_image())
    assert region[60, 20] and region[60, 70] and not region[60, 45]


def test_overlay_takes_all_kinds_of_masks():
    mask = box_mask(30, 40, 90, 80)
    polygons = [[30.0, 40, 90, 40, 90, 80, 30, 80]]
    kinds = [torch.from_numpy(mask)[None], mask[None], BitMasks(torch.from_numpy(mask)[None]), PolygonMasks([polygons])]
    kinds += [[polygons], [GenericMask(mask, H, W)]]
    for kind in kinds:
        image = Visualizer(grey()).overlay_instances(masks=kind, assigned_colors=[RED]).get_image()
        assert changed(image)[60, 60] and not changed(image)[20, 60]


def test_overlay_checks_the_numbers():
    with pytest.raises(AssertionError):
        Visualizer(grey()).overlay_instances(boxes=np.array([[1, 2, 3, 4]]), labels=["a", "b"])


def test_overlay_of_nothing():
    assert not changed(Visualizer(grey()).overlay_instances().get_image()).any()
    empty = instances([[1, 2, 30, 40]], [0])[torch.tensor([False])]
    assert not changed(Visualizer(grey()).draw_instance_predictions(empty).get_image()).any()


def test_larger_objects_lie_below():
    small, large = box_mask(60, 50, 90, 80), box_mask(20, 20, 140, 110)
    colors = [(0.0, 0.0, 1.0), RED]
    for order in ([0, 1], [1, 0]):
        masks = np.stack([small, large])[order]
        output = Visualizer(grey()).overlay_instances(masks=masks, assigned_colors=[colors[i] for i in order], alpha=1)
        assert output.get_image()[70, 80].tolist() == [0, 0, 255]


def test_keypoints():
    points = np.array([[[40, 50, 2], [100, 80, 0]]])
    region = changed(Visualizer(grey()).overlay_instances(keypoints=points, assigned_colors=[RED]).get_image())
    assert region[50, 40] and not region[80, 100]


def test_dataset_record(metadata):
    annotation = {
        "bbox": [30, 40, 60, 40],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "segmentation": [[30, 40, 90, 40, 90, 80, 30, 80]],
    }
    for mode in (ColorMode.IMAGE, ColorMode.SEGMENTATION):
        visualizer = Visualizer(grey(), metadata, instance_mode=mode)
        region = changed(visualizer.draw_dataset_dict({"annotations": [annotation]}).get_image())
        assert region[70, 60] and not region[100, 60] and not region[10].any()
    assert not changed(Visualizer(grey(), metadata).draw_dataset_dict({}).get_image()).any()


# ---- videos


def colour_at(image, x, y):
    return image[y, x].astype(int)


def test_moving_objects_keep_their_colours(metadata):
    video = VideoVisualizer(metadata)
    frames = [
        instances([[10, 10, 60, 60], [90, 60, 150, 110]], [0, 1]),
        instances([[92, 62, 152, 112], [13, 12, 63, 62]], [1, 0]),  # the other way round, and both a bit further
    ]
    first, second = (video.draw_instance_predictions(grey(), found).get_image() for found in frames)
    for x, y in ((18, 18), (98, 68)):
        np.testing.assert_allclose(colour_at(first, x, y), colour_at(second, x, y), atol=2)


def test_boxes_keep_their_colours(metadata):
    video = VideoVisualizer(metadata)
    frames = [
        video.draw_instance_predictions(grey(), instances([[10 + t, 10, 80 + t, 100]], [0], masks=False)).get_image()
        for t in range(3)
    ]
    np.testing.assert_allclose(colour_at(frames[0], 45, 100), colour_at(frames[2], 45, 100), atol=2)


def test_colours_survive_a_short_absence(metadata):
    video = VideoVisualizer(metadata)
    seen = instances([[20, 20, 70, 70]], [0])
    first = video.draw_instance_predictions(grey(), seen).get_image()
    for _ in range(3):
        empty = video.draw_instance_predictions(grey(), seen[torch.tensor([False])]).get_image()
        assert not changed(empty).any()
    again = video.draw_instance_predictions(grey(), seen).get_image()
    np.testing.assert_allclose(colour_at(first, 30, 60), colour_at(again, 30, 60), atol=2)


def test_colours_follow_ids(metadata):
    video = VideoVisualizer(metadata)
    boxes = [[10, 10, 60, 60], [90, 60, 150, 110]]
    first = video.draw_instance_predictions(grey(), instances(boxes, [0, 0], ID=[5, 8])).get_image()
    second = video.draw_instance_predictions(grey(), instances(boxes, [0, 0], ID=[8, 5])).get_image()
    a, b = colour_at(first, 20, 50), colour_at(first, 110, 100)
    assert np.abs(a - b).max() > 3
    np.testing.assert_allclose(colour_at(second, 110, 100), a, atol=2)
    np.testing.assert_allclose(colour_at(second, 20, 50), b, atol=2)


def test_given_colours_are_used(metadata):
    found = instances([[20, 20, 70, 70]], [0], COLOR=[RED])
    image = VideoVisualizer(metadata).draw_instance_predictions(grey(100), found).get_image()
    np.testing.assert_allclose(colour_at(image, 30, 60), [177, 50, 50], atol=2)


def test_grey_video(metadata):
    colourful = grey()
    colourful[..., 0] = 250
    video = VideoVisualizer(metadata, ColorMode.IMAGE_BW)
    image = video.draw_instance_predictions(colourful, instances([[20, 20, 70, 70]], [0])).get_image()
    assert np.ptp(colour_at(image, 140, 10)) <= 1 and np.ptp(colour_at(image, 30, 60)) > 1


def test_video_semantic_segmentation(metadata):
    labels = torch.zeros(H, W, dtype=torch.int64)
    frames = [VideoVisualizer(metadata).draw_sem_seg(grey(), labels).get_image() for _ in range(2)]
    assert frames[0].shape == (H, W, 3) and changed(frames[0]).mean() > 0.9
