"""J and F of DAVIS against a literal reading of their definition, and the evaluator around them."""

import itertools
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vis_core.data import register_davis
from vis_core.data.label_maps import label_colors, read_label_map, write_label_map
from vis_core.engine import VideoTrainer
from vis_core.errors import ConfigError, DataError
from vis_core.evaluation import DavisEvaluator
from vis_core.evaluation.davis import Scores, boundary_map, frame_scores, match, statistics, tolerance
from vis_core.tube import Tube, encode_masks

# ---------------------------------------------------------------- the definition, pixel by pixel and pair by pair


def literal_boundary(mask):
    """{(y, x)} where the mask differs from its right, lower or lower right neighbour, the image repeating its edge."""
    height, width = mask.shape
    found = set()
    for y, x in itertools.product(range(height), range(width)):
        down, right = min(y + 1, height - 1), min(x + 1, width - 1)
        if not mask[y, x] == mask[down, x] == mask[y, right] == mask[down, right]:
            found.add((y, x))
    return found


def literal_region(a, b):
    union = np.logical_or(a, b).sum()
    return 1.0 if union == 0 else np.logical_and(a, b).sum() / union


def literal_boundary_score(a, b):
    radius = math.ceil(0.008 * math.sqrt(a.shape[0] ** 2 + a.shape[1] ** 2))
    a, b = literal_boundary(a), literal_boundary(b)
    if not a and not b:
        return 1.0
    if not a or not b:
        return 0.0

    def share(points, others):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points]
        return sum(near) / len(near)

    precision, recall = share(a, b), share(b, a)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def literal_statistics(values):
    mean, recall = sum(values) / len(values), sum(v > 0.5 for v in values) / len(values)
    ends = [math.floor(1 + i * (len(values) - 1) / 4 + 0.5 + 1e-10) - 1 for i in range(5)]
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return mean, recall, sum(first) / len(first) - sum(last) / len(last)


def literal_evaluation(videos):
    """Percentages of label maps [(truth (T, H, W), predicted (T, H, W))]; 255 in the truth is void."""
    rows = []
    for truth, predicted in videos:
        void = truth == 255
        truth, predicted = np.where(void, 0, truth), np.where(void, 0, predicted)
        objects = [k for k in np.unique(truth) if 0 < k <= truth[0].max()]
        proposals = list(range(1, max(int(predicted.max()), len(objects)) + 1))
        j = [[[literal_region(t == g, p == q) for t, p in zip(truth, predicted)] for g in objects] for q in proposals]
        f = [
            [[literal_boundary_score(t == g, p == q) for t, p in zip(truth, predicted)] for g in objects]
            for q in proposals
        ]
        choices = itertools.permutations(range(len(proposals)), len(objects))
        best = max(choices, key=lambda c: sum(np.mean(j[q][g]) + np.mean(f[q][g]) for g, q in enumerate(c)))
        rows += [literal_statistics(j[q][g]) + literal_statistics(f[q][g]) for g, q in enumerate(best)]
    names = [f"{measure}-{name}" for measure in "JF" for name in ("Mean", "Recall", "Decay")]
    scores = {name: 100 * sum(row[i] for row in rows) / len(rows) for i, name in enumerate(names)}
    return {"J&F": (scores["J-Mean"] + scores["F-Mean"]) / 2, **scores}


# ---------------------------------------------------------------- generated palette data


def drawn(rng, num_objects, num_frames, height, width, moves=3):
    """Label maps of drifting ellipses, the later above; objects come, go and leave the image."""
    maps = np.zeros((num_frames, height, width), dtype=np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for k in range(1, num_objects + 1):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        b, a = rng.uniform(1, 2 + height / 3), rng.uniform(1, 2 + width / 3)
        for t in range(num_frames):
            if t == 0 or rng.random() < 0.9:
                maps[t][((rows - y) / b) ** 2 + ((columns - x) / a) ** 2 <= 1] = k
            y, x = y + rng.uniform(-moves, moves), x + rng.uniform(-moves, moves)
    return maps


def noisy(rng, maps):
    """What a method might have made of it: shifted, with objects split, missing, new and renumbered."""
    shifted = np.stack([np.roll(m, rng.integers(-2, 3, 2), axis=(0, 1)) for m in maps])
    split = shifted.copy()
    split[:, :, : maps.shape[2] // 2][split[:, :, : maps.shape[2] // 2] == 1] = 5
    split[rng.random(len(maps)) < 0.2] = 0
    order = rng.permutation(5) + 1
    return np.concatenate([[0], order])[split].astype(np.uint8)


def dataset(tmp_path, name, truths, register=True):
    for v, truth in enumerate(truths):
        for t, labels in enumerate(truth):
            write_label_map(tmp_path / "masks" / f"video{v}" / f"{t:05d}.png", labels)
            frame = tmp_path / "frames" / f"video{v}" / f"{t:05d}.jpg"
            frame.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", labels.shape[::-1]).save(frame)
    (tmp_path / "list.txt").write_text("".join(f"video{v}\n" for v in range(len(truths))))
    if register:
        register_davis(name, tmp_path / "list.txt", tmp_path / "frames", tmp_path / "masks")


@pytest.fixture
def name(request):
    name = request.node.name
    yield name
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def tubes(maps, shuffle=None):
    """One tube a label, the best score first; ``shuffle`` hands them over in another order."""
    found = [
        Tube(0, 1 - k / 50, [rle if m.any() else None for rle, m in zip(encode_masks(maps == k), maps == k)])
        for k in range(1, int(maps.max()) + 1)
    ]
    return found if shuffle is None else [found[i] for i in shuffle.permutation(len(found))]


def run(name, predictions, **arguments):
    evaluator = DavisEvaluator(name, **arguments)
    evaluator.reset()
    for v, maps in enumerate(predictions, start=1):
        evaluator.process([{"video_id": v}], [{"tubes": tubes(maps, np.random.default_rng(0))}])
    return evaluator.evaluate()


# ---------------------------------------------------------------- equal to the definition


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 40), width=st.integers(1, 40))
def test_frame(seed, height, width):
    rng = np.random.default_rng(seed)
    truth = drawn(rng, rng.integers(0, 4), 1, height, width)[0]
    predicted = drawn(rng, rng.integers(0, 5), 1, height, width)[0]
    void = rng.random((height, width)) < 0.05
    num_objects, num_proposals = int(truth.max()) + 1, int(predicted.max())  # one object that is not there
    scores = frame_scores(truth, predicted, num_objects, num_proposals, void)
    truth, predicted = np.where(void, 0, truth), np.where(void, 0, predicted)
    for p, g in itertools.product(range(num_proposals), range(num_objects)):
        ours, theirs = predicted == p + 1, truth == g + 1
        assert scores.region[p, g] == pytest.approx(literal_region(ours, theirs), abs=1e-9)
        assert scores.boundary[p, g] == pytest.approx(literal_boundary_score(ours, theirs), abs=1e-9)
    assert scores.region.shape == scores.boundary.shape == (num_proposals, num_objects)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 12), width=st.integers(1, 12))
def test_boundary_map(seed, height, width):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    assert set(zip(*np.nonzero(boundary_map(mask)))) == literal_boundary(mask)


@pytest.mark.parametrize("seed", range(3))
def test_evaluator(tmp_path, name, seed):
    """Palette files in, palette files and percentages out."""
    rng = np.random.default_rng(seed)
    sizes = [(int(rng.integers(20, 40)), int(rng.integers(20, 60))) for _ in range(3)]
    truths = [drawn(rng, num, int(rng.integers(1, 9)), *size) for num, size in zip((1, 2, 3), sizes)]
    predictions = [noisy(rng, truth) for truth in truths]
    predictions[0][:] = 0  # nothing found
    truths[1][:, 5:9, 5:9] = 255
    truths[2][1:][truths[2][1:] == 0] = 9  # appears too late to count
    dataset(tmp_path, name, truths)
    scores = run(name, predictions, output_dir=str(tmp_path / "out"))
    expected = literal_evaluation(list(zip(truths, predictions)))
    assert list(scores) == ["davis_uvos"] and list(scores["davis_uvos"]) == list(expected)
    for key, value in expected.items():
        assert scores["davis_uvos"][key] == pytest.approx(value, abs=1e-9), key
    for v, maps in enumerate(predictions):
        for t, labels in enumerate(maps):
            assert (read_label_map(tmp_path / "out" / "davis" / f"video{v}" / f"{t:05d}.png") == labels).all()


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_statistics(values):
    ours = statistics(np.array(values))
    assert [ours["Mean"], ours["Recall"], ours["Decay"]] == pytest.approx(literal_statistics(values), abs=1e-12)


# ---------------------------------------------------------------- by hand


def test_known_numbers():
    """Two squares of 10 pixels, 5 apart, in an image whose tolerance is 1 pixel."""
    truth, predicted = np.zeros((60, 60), int), np.zeros((60, 60), int)
    truth[20:30, 20:30], predicted[20:30, 25:35] = 1, 1
    assert tolerance(60, 60) == 1
    scores = frame_scores(truth, predicted, 1, 1)
    assert scores.region[0, 0] == 50 / 150
    # The boundaries are rings of 40 pixels, rows 19 to 29, columns 19 to 29 and 24 to 34. Within a pixel of the other
    # ring lie 7 of the top side, 7 of the bottom side and 2 of one of the other sides.
    assert scores.boundary[0, 0] == pytest.approx(16 / 40, abs=1e-12)
    assert frame_scores(truth, truth, 1, 1).boundary[0, 0] == 1
    # What is void in both is gone from both.
    void = np.zeros((60, 60), bool)
    void[:, 25:] = True
    assert frame_scores(truth, predicted, 1, 1, void).region[0, 0] == 0


def test_match_is_the_best_of_all_and_unique():
    region = np.zeros((3, 2, 1))
    region[:, :, 0] = [[0.9, 0.8], [0.1, 0.0], [0.85, 0.1]]  # both objects prefer proposal 0
    matched, proposals = match(Scores(region, region))
    assert proposals.tolist() == [2, 0]
    assert matched.region.ravel().tolist() == [0.85, 0.8]


# ---------------------------------------------------------------- the evaluator's other duties


def square(size, top, left, side):
    mask = np.zeros((1, *size), bool)
    mask[0, top : top + side, left : left + side] = True
    return encode_masks(mask)[0]


def test_better_tubes_lie_above_and_twenty_count(tmp_path, name):
    size = (30, 30)
    truth = np.zeros((1, *size), np.uint8)
    truth[0, 5:15, 5:15] = 1
    dataset(tmp_path, name, [truth])
    found = [Tube(0, 0.1 + k / 100, [square(size, 20, k, 3)]) for k in range(25)]
    found.append(Tube(0, 0.9, [square(size, 5, 5, 10)]))
    found.append(Tube(0, 0.95, [square(size, 0, 0, 7)]))
    evaluator = DavisEvaluator(name, output_dir=str(tmp_path / "out"))
    evaluator.reset()
    evaluator.process([{"video_id": 1}], [{"tubes": found}])
    labels = read_label_map(tmp_path / "out" / "davis" / "video0" / "00000.png")
    assert labels[6, 6] == 1 and labels[10, 10] == 2  # the best tube's corner covers the second's
    assert labels.max() == 20
    assert evaluator.evaluate()["davis_uvos"]["J-Mean"] == pytest.approx(96.0)
    with pytest.raises(DataError, match=f"'{name}' has no video 7"):
        evaluator.process([{"video_id": 7}], [{"tubes": []}])
    with pytest.raises(ValueError, match="video 1: a tube has 2 frames, the video has 1"):
        evaluator.process([{"video_id": 1}], [{"tubes": [Tube(0, 1.0, [None, None])]}])


def test_objects_that_appear_later(tmp_path, name, caplog):
    truth = np.zeros((4, 20, 20), np.uint8)
    truth[:, 2:8, 2:8] = 1
    truth[1:, 12:18, 12:18] = 2
    dataset(tmp_path, name, [truth])
    only_first = np.where(truth == 1, 1, 0).astype(np.uint8)
    assert run(name, [only_first])["davis_uvos"]["J&F"] == 100
    assert "video 1: 1 objects appear after the first frame" in caplog.text
    MetadataCatalog.get(name).set(davis_objects="any_frame")
    scores = run(name, [only_first])["davis_uvos"]
    assert scores["J-Mean"] == pytest.approx(100 * (1 + 0.25) / 2)  # right about one frame of the second
    MetadataCatalog.pop(name)
    MetadataCatalog.get(name).set(davis_objects="all")
    with pytest.raises(ConfigError, match="davis_objects 'all' is not one of"):
        DavisEvaluator(name)


def test_without_ground_truth_the_maps_are_written(tmp_path, name, caplog):
    truth = np.zeros((2, 20, 20), np.uint8)
    truth[:, 2:8, 2:8] = 1
    dataset(tmp_path, name, [truth], register=False)
    register_davis(name, tmp_path / "list.txt", tmp_path / "frames", None)
    assert run(name, [truth], output_dir=str(tmp_path / "out")) == {}
    assert "without ground truth" in caplog.text
    assert len(list((tmp_path / "out" / "davis" / "video0").iterdir())) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x/a/0.jpg", "y/a/0.jpg"], r"video 2: folder y/a is called like x/a of video 1"),
        (["x/../0.jpg", "y/0.jpg"], r"video 1: folder x/\.\. has no name of its own"),
    ],
)
def test_label_maps_are_not_written_over_each_other_or_elsewhere(names, message, tmp_path, name):
    records = [
        {"video_id": v, "file_names": [file], "height": 4, "width": 4, "length": 1, "annotations": [[]]}
        for v, file in enumerate(names, start=1)
    ]
    DatasetCatalog.register(name, lambda: records)
    DavisEvaluator(name).reset()  # writes nothing
    with pytest.raises(DataError, match=message):
        DavisEvaluator(name, output_dir=str(tmp_path)).reset()


def test_the_trainer_finds_it(tmp_path, name):
    dataset(tmp_path, name, [np.ones((1, 9, 9), np.uint8)])
    evaluator = VideoTrainer.build_evaluator(None, name, output_folder=str(tmp_path))
    assert isinstance(evaluator, DavisEvaluator)


def test_palette_files(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_label_map(tmp_path / "a.png", labels)
    assert (read_label_map(tmp_path / "a.png") == labels).all()
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array(image.convert("RGB"))[0, :4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert len(np.unique(label_colors(), axis=0)) == 256
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: expected a palette or grey image of labels, its pixels are RGB"):
        read_label_map(tmp_path / "b.png")
    (tmp_path / "c.png").write_text("no")
    with pytest.raises(DataError, match=r"c\.png: cannot be read as an image"):
        read_label_map(tmp_path / "c.png")


def test_tubes_of_a_model_on_any_device(tmp_path, name):
    """Absent frames may be None or empty masks."""
    truth = np.zeros((2, 20, 20), np.uint8)
    truth[0, 2:8, 2:8] = 1
    dataset(tmp_path, name, [truth])
    for second in (None, encode_masks(torch.zeros(1, 20, 20))[0]):
        evaluator = DavisEvaluator(name)
        evaluator.reset()
        evaluator.process([{"video_id": 1}], [{"tubes": [Tube(0, 1.0, [square((20, 20), 2, 2, 6), second])]}])
        assert evaluator.evaluate()["davis_uvos"]["J&F"] == 100
