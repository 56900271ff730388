"""The evaluator against a slow, literal reading of the metric's rules on dense masks (docs/evaluation.md)."""

import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vis_core.evaluation import evaluate_tracks
from vis_core.rle import encode_dense

HEIGHT, WIDTH = 3, 4
AREAS = [("all", 0, 1e10), ("small", 0, 128**2), ("medium", 128**2, 256**2), ("large", 256**2, 1e10)]
LEVELS = [("all", 0, 1), ("light", 0, 0.25), ("medium", 0.25, 0.5), ("heavy", 0.5, 1)]
TAGS = {"no_occlusion": 0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
LIMITS = [1, 10, 100]


# The rules, one function each.


def dense(track):
    return [None if bits is None else np.array([bits >> i & 1 for i in range(HEIGHT * WIDTH)], bool) for bits in track]


def band(mask):
    """Boundary of width 1, as in any small image: the 3 x 3 square holds background or leaves the image."""
    padded = np.pad(mask.reshape(HEIGHT, WIDTH), 1)
    inside = np.ones((HEIGHT, WIDTH), bool)
    for row in range(3):
        for column in range(3):
            inside &= padded[row : row + HEIGHT, column : column + WIDTH]
    return mask & ~inside.ravel()


def tube_iou(detection, truth):
    common = total = 0
    for d, g in zip(detection, truth):
        d, g = (np.zeros(HEIGHT * WIDTH, bool) if m is None else m for m in (d, g))
        common += int((d & g).sum())
        total += int((d | g).sum())
    return common / total if total else 0.0


def boundary_iou(detection, truth):
    return tube_iou(*([None if m is None else band(m) for m in tube] for tube in (detection, truth)))


def average(areas):
    present = [area for area in areas if area]
    return sum(present) / len(present) if present else 0


def occlusion(tags):
    levels = sorted((TAGS[tag] for tag in tags if tag is not None), reverse=True)
    worst = levels[: math.ceil(len(levels) / 2)]
    return sum(worst) / len(worst)


def literal(gt, results, boundary, with_occlusion):
    """Arrays precision, recall, scores by nothing but the rules."""
    levels = LEVELS if with_occlusion else LEVELS[:1]
    categories = sorted(category["id"] for category in gt["categories"])
    thresholds, points = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
    shape = (10, 101, len(categories), len(AREAS), len(levels), len(LIMITS))
    precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
    recall = np.full((10, *shape[2:]), -1.0)
    for k, category in enumerate(categories):
        for a, (_, low, high) in enumerate(AREAS):
            for o, (_, least, most) in enumerate(levels):
                for s, threshold in enumerate(thresholds):
                    for m, limit in enumerate(LIMITS):
                        kept, count = [], 0
                        for video in sorted(video["id"] for video in gt["videos"]):
                            objects = [
                                {
                                    **g,
                                    "ignore": bool(
                                        g["iscrowd"]
                                        or not low <= average(g["areas"]) <= high
                                        or not least <= occlusion(g["occlusion"]) <= most
                                    ),
                                }
                                for g in gt["annotations"]
                                if (g["video_id"], g["category_id"]) == (video, category)
                            ]
                            detections = [d for d in results if (d["video_id"], d["category_id"]) == (video, category)]
                            kept += match(detections, objects, threshold, low, high, boundary)[:limit]
                            count += sum(not g["ignore"] for g in objects)
                        if count == 0:
                            continue
                        curve = accumulate(kept, count)
                        at = k, a, o, m
                        recall[(s, *at)] = curve[-1][0] if curve else 0
                        for r, point in enumerate(points):
                            i = bisect_left([step[0] for step in curve], point)
                            precision[(s, r, *at)] = curve[i][1] if i < len(curve) else 0
                            scores[(s, r, *at)] = curve[i][2] if i < len(curve) else 0
    return precision, recall, scores


def match(detections, objects, threshold, low, high, boundary):
    """(score, verdict) by falling score, verdict True, False or None for ignored."""
    objects = sorted(objects, key=lambda g: g["ignore"])
    taken, verdicts = set(), []
    for d in sorted(detections, key=lambda d: -d["score"])[: LIMITS[-1]]:
        best, match = min(threshold, 1 - 1e-10), None
        for i, g in enumerate(objects):
            if i in taken and not g["iscrowd"]:
                continue
            if match is not None and g["ignore"] and not objects[match]["ignore"]:
                break
            iou = tube_iou(d["masks"], g["masks"])
            if boundary and not g["iscrowd"]:
                iou = min(iou, boundary_iou(d["masks"], g["masks"]))
            if iou >= best:
                best, match = iou, i
        if match is None:
            area = average([0 if mask is None else int(mask.sum()) for mask in d["masks"]])
            verdicts.append((d["score"], None if not low <= area <= high else False))
        else:
            taken.add(match)
            verdicts.append((d["score"], None if objects[match]["ignore"] else True))
    return verdicts


def accumulate(verdicts, count):
    """Steps of the curve: (recall, precision made non-increasing, score)."""
    steps, tp, fp = [], 0.0, 0.0
    for score, verdict in sorted(verdicts, key=lambda v: -v[0]):
        tp += verdict is True
        fp += verdict is False
        steps.append([tp / count, tp / (fp + tp + np.spacing(1)), score])
    for i in range(len(steps) - 1, 0, -1):
        steps[i - 1][1] = max(steps[i - 1][1], steps[i][1])
    return steps


# Random small data sets.

MASK = st.none() | st.integers(0, 2 ** (HEIGHT * WIDTH) - 1) | st.sampled_from([0, 0xFFF, 0x0FF, 0xFF0, 0x333, 0x777])


@st.composite
def data_sets(draw, max_results=8):
    lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    categories = draw(st.lists(st.integers(1, 9), min_size=1, max_size=2, unique=True))

    def track(video):
        return draw(st.lists(MASK, min_size=lengths[video], max_size=lengths[video]))

    annotations, results = [], []
    for number in range(draw(st.integers(0, 4))):
        video = draw(st.integers(0, len(lengths) - 1))
        bits = track(video)
        tags = draw(st.lists(st.sampled_from([*TAGS, None]), min_size=len(bits), max_size=len(bits)))
        annotations.append(
            {
                "id": number + 1,
                "video_id": video + 1,
                "category_id": draw(st.sampled_from(categories)),
                "iscrowd": int(draw(st.booleans()) and draw(st.booleans())),
                "areas": draw(st.lists(st.sampled_from([None, 0, 5, 16384, 40000, 65536, 1e6]), max_size=3)),
                "occlusion": [draw(st.sampled_from(list(TAGS))), *tags[1:]],
                "bits": bits,
            }
        )
    for _ in range(draw(st.integers(0, max_results))):
        near = draw(st.none() | st.sampled_from(annotations)) if annotations else None
        video = draw(st.integers(0, len(lengths) - 1)) if near is None else near["video_id"] - 1
        results.append(
            {
                "video_id": video + 1,
                "category_id": draw(st.sampled_from(categories)) if near is None else near["category_id"],
                "score": draw(st.sampled_from([0.0, 0.25, 0.5, 1])),
                "bits": track(video) if near is None or draw(st.booleans()) else near["bits"],
            }
        )
    gt = {
        "videos": [{"id": v + 1, "height": HEIGHT, "width": WIDTH, "length": n} for v, n in enumerate(lengths)],
        "categories": [{"id": category, "name": str(category)} for category in categories],
        "annotations": annotations,
    }
    return gt, results


def both_forms(tracks):
    """Tracks for our evaluator (RLEs) and for the literal one (dense masks)."""
    ours, theirs = [], []
    for track in tracks:
        common = {key: value for key, value in track.items() if key != "bits"}
        masks = dense(track["bits"])
        rles = [
            None
            if mask is None
            else {"size": [HEIGHT, WIDTH], "counts": encode_dense(mask.reshape(1, HEIGHT, WIDTH))[0]}
            for mask in masks
        ]
        ours.append({**common, "segmentations": rles})
        theirs.append({**common, "masks": masks})
    return ours, theirs


@pytest.mark.parametrize("iou_type, occlusion", [("segm", False), ("segm", True), ("boundary", False)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data_sets())
def test_equals_the_literal_reading(iou_type, occlusion, data):
    gt, results = data
    annotations, literal_annotations = both_forms(gt["annotations"])
    ours, theirs = both_forms(results)
    metrics = evaluate_tracks({**gt, "annotations": annotations}, ours, iou_type=iou_type, occlusion=occlusion)
    expected = literal({**gt, "annotations": literal_annotations}, theirs, iou_type == "boundary", occlusion)
    for name, reference in zip(("precision", "recall", "scores"), expected):
        if not occlusion:
            reference = reference[..., 0, :]
        np.testing.assert_array_equal(getattr(metrics, name), reference, err_msg=name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data_sets(), st.randoms(use_true_random=False))
def test_the_order_of_distinct_scores_does_not_matter(data, random):
    gt, results = data
    gt["annotations"], _ = both_forms(gt["annotations"])
    results, _ = both_forms(results)
    for rank, track in enumerate(random.sample(results, len(results))):
        track["score"] = (rank + 1) / (len(results) + 1)
    before = evaluate_tracks(gt, results)
    after = evaluate_tracks(gt, random.sample(results, len(results)))
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data_sets(), st.integers(0, 2), st.data())
def test_a_false_positive_of_lowest_score_never_raises_ap(data, choice, more):
    gt, results = data
    gt["annotations"], _ = both_forms(gt["annotations"])
    results, _ = both_forms(results)
    assume(gt["annotations"])
    before = evaluate_tracks(gt, results)
    video = more.draw(st.sampled_from(gt["videos"]))
    empty = {"size": [HEIGHT, WIDTH], "counts": encode_dense(np.zeros((1, HEIGHT, WIDTH), bool))[0]}
    false_positive = {
        "video_id": video["id"],
        "category_id": more.draw(st.sampled_from(gt["categories"]))["id"],
        "score": -1.0,
        "segmentations": [[None, empty, empty][choice]] * video["length"],
    }
    after = evaluate_tracks(gt, [*results, false_positive])
    assert (after.precision <= before.precision).all()
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert after.stats[name] <= before.stats[name]
