"""Each format as its own tools write it, by hand: what comes out, and what is refused in one line."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from vis_core.data.formats import ReadOptions, detect_format, read_labels
from vis_core.data.formats.regions import mask_rle
from vis_core.errors import DataError
from vis_core.tube import decode_mask

H, W = 20, 30


def pixels(track, t):
    return decode_mask(track.masks[t])


def rectangle(x0, y0, x1, y1):
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def write_frames(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (W, H)).save(folder / name)


def refused(source, message, **options):
    with pytest.raises(DataError) as error:
        read_labels(source, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


# LabelMe


def labelme(folder, stem, shapes, **fields):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"version": "5", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.jpg", "imageData": None}
    content |= {"imageHeight": H, "imageWidth": W, **fields}
    (folder / f"{stem}.json").write_text(json.dumps(content))


def shape(label, points, group=None, kind="polygon", **fields):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **fields}


def test_labelme_shapes_become_the_pixels_they_cover(tmp_path):
    png = io.BytesIO()
    patch = np.array([[1, 0, 1], [0, 1, 0]], np.uint8) * 255
    Image.fromarray(patch).save(png, "png")
    shapes = [
        shape("cat", [[2, 3], [8, 3], [8, 9], [2, 9]], 1),
        shape("cat", [[20, 10], [26, 15]], 1, "rectangle"),  # a second part of the same cat
        shape("dog", [[15, 10], [18, 14]], 2, "circle"),
        shape("ant", [[5, 12], [7, 13]], 3, "mask", mask=base64.b64encode(png.getvalue()).decode()),
        shape("cat", [[1, 1], [4, 4]], 1, "line"),
    ]
    labelme(tmp_path / "a", "f2", shapes)
    labelme(tmp_path / "a", "f10", [shape("dog", [[9, 9], [3, 3]], 2, "rectangle")], imagePath=".\\f10.jpg")
    assert detect_format(tmp_path) == "labelme"
    labels = read_labels(tmp_path)
    (video,) = labels.videos
    assert video.file_names == ["a/f2.jpg", "a/f10.jpg"], "natural order"
    assert labels.categories == {"ant": 1, "cat": 2, "dog": 3}
    tracks = {track.category: track for track in video.tracks}
    assert {name: track.id for name, track in tracks.items()} == {"cat": 1, "dog": 2, "ant": 3}
    np.testing.assert_array_equal(pixels(tracks["cat"], 0), rectangle(2, 3, 8, 9) | rectangle(20, 10, 26, 15))
    y, x = np.mgrid[:H, :W] + 0.5
    np.testing.assert_array_equal(pixels(tracks["dog"], 0), (x - 15) ** 2 + (y - 10) ** 2 <= 25)
    np.testing.assert_array_equal(pixels(tracks["dog"], 1), rectangle(3, 3, 9, 9))
    expected = np.zeros((H, W), bool)
    expected[12:14, 5:8] = patch > 0
    np.testing.assert_array_equal(pixels(tracks["ant"], 0), expected)
    assert labels.notes["shapes of type line have no area and were left out"] == 1


def test_labelme_label_alone_is_an_identity_while_it_is_the_only_one(tmp_path):
    square = [[1, 1], [5, 1], [5, 5]]
    labelme(tmp_path / "a", "0", [shape("cat", square), shape("dog", square)])
    labelme(tmp_path / "a", "1", [shape("cat", square)])
    assert sorted(len(track.masks) for track in read_labels(tmp_path).videos[0].tracks) == [1, 2]
    labelme(tmp_path / "a", "1", [shape("cat", square), shape("cat", square)])
    refused(tmp_path, "1.json: shape 1: a second 'cat' without group_id")


def test_labelme_frames_without_a_json(tmp_path):
    write_frames(tmp_path / "a", ["0.jpg", "1.jpg", "2.jpg"])
    labelme(tmp_path / "a", "1", [shape("cat", [[1, 1], [5, 1], [5, 5]])])
    labels = read_labels(tmp_path)
    assert labels.videos[0].file_names == ["a/1.jpg"] and sum(labels.notes.values()) == 2
    labels = read_labels(tmp_path, options=ReadOptions(keep_unlabelled=True))
    assert labels.videos[0].file_names == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
    assert list(labels.videos[0].tracks[0].masks) == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a/1.json: not valid json"),
        ("{", "a/1.json: not valid json"),
        ('{"shapes": null}', "a/1.json: field 'shapes' is missing"),
        ("[]", "a/1.json: field 'shapes' is missing"),
    ],
)
def test_labelme_damaged_json_of_a_frame(text, message, tmp_path):
    labelme(tmp_path / "a", "0", [shape("cat", [[1, 1], [5, 1], [5, 5]])])
    (tmp_path / "a" / "1.json").write_text(text)
    labels = read_labels(tmp_path)  # nothing says that it belongs to a frame
    assert labels.notes[f"json files that are not LabelMe's were left out, {tmp_path / 'a' / '1.json'} the first"] == 1
    write_frames(tmp_path / "frames" / "a", ["0.jpg", "1.jpg"])
    refused(tmp_path, message, options=ReadOptions(frames=tmp_path / "frames"))
    write_frames(tmp_path / "a", ["0.jpg", "1.jpg"])
    refused(tmp_path, message)
    (tmp_path / "a" / "1.jpg").unlink()
    (tmp_path / "a" / "1.json").write_text('{"shapes": null, "imagePath": "f1.jpg"}')
    refused(tmp_path, "a/1.json: field 'shapes' is missing")


def test_labelme_json_and_frame_of_different_names(tmp_path):
    square = [shape("cat", [[1, 1], [5, 1], [5, 5]])]
    write_frames(tmp_path / "a", ["0.jpg", "1.jpg", "2.jpg"])
    labelme(tmp_path / "a", "0", square, imagePath="IMG_7.jpg")  # was renamed
    labelme(tmp_path / "a", "1", square, imagePath="2.jpg")
    labels = read_labels(tmp_path)
    assert labels.videos[0].file_names == ["a/0.jpg", "a/2.jpg"]
    assert dict(labels.notes) == {
        "frames that no json names were left out, a/1.jpg the first (--keep-unlabelled keeps them)": 1,
        "imagePath names a file that is not there: the image of the json's own name was taken": 1,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": [shape(" ", [[1, 1], [5, 1], [5, 5]])]}, "1.json: shape 0: 'label' is empty"),
        ({"imagePath": "../../etc/passwd"}, "leads out of"),
        ({"imagePath": "/etc/passwd"}, "leads out of"),
        ({"shapes": [{"points": []}]}, "shape 0: has no 'label'"),
        ({"shapes": [shape("cat", [[1, 1], [2, 2]])]}, "shape 0: a polygon needs three corners"),
        ({"shapes": [shape("cat", [["a", 1], [2, 2], [3, 3]])]}, "coordinates are not numbers"),
        ({"shapes": [shape("cat", [[1e300, 1], [2, 2], [3, 3]])]}, "lies far outside"),
        ({"shapes": [shape("cat", [[1, 1], [2, 2]], "x")]}, "group_id 'x' is not a number"),
        ({"shapes": [shape("cat", [[1, 1], [2, 2]], 1, "mask", mask="????")]}, "not a png in base64"),
        ({"imageHeight": H + 1}, "the first frame has"),
    ],
)
def test_labelme_refuses(change, message, tmp_path):
    labelme(tmp_path / "a", "0", [])
    labelme(tmp_path / "a", "1", **{"shapes": [], **change})
    refused(tmp_path, message)


# CVAT


def cvat(tmp_path, tracks, size=7, meta="", name="clip"):
    labels = "".join(f"<label><name>{n}</name></label>" for n in ("dog", "cat"))
    text = (
        f"<annotations><version>1.1</version><meta><task><id>4</id><size>{size}</size>{meta}<labels>{labels}</labels>"
        f"<original_size><width>{W}</width><height>{H}</height></original_size><source>clip.mp4</source></task></meta>"
        f"{tracks}</annotations>"
    )
    (tmp_path / f"{name}.xml").write_text(text)
    return tmp_path / f"{name}.xml"


def box(frame, x0, y0, x1, y1, outside=0, extra=""):
    corners = f'xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"'
    return f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" {corners} {extra}/>'


def test_cvat_boxes_move_between_keyframes_and_end_where_they_are_outside(tmp_path):
    shapes = box(1, 0, 0, 4, 4) + box(3, 8, 4, 12, 8) + box(5, 8, 4, 12, 8, outside=1)
    path = cvat(tmp_path, f'<track id="0" label="cat">{shapes}</track>')
    labels = read_labels(path)
    (video,) = labels.videos
    assert labels.categories == {"dog": 1, "cat": 2} and (video.id, len(video.file_names)) == (4, 7)
    (track,) = video.tracks
    assert sorted(track.masks) == [1, 2, 3, 4], "held until it is outside; ids below 1 are renumbered"
    assert track.id == 1
    np.testing.assert_array_equal(pixels(track, 2), rectangle(4, 2, 8, 6))
    np.testing.assert_array_equal(pixels(track, 4), rectangle(8, 4, 12, 8))


def test_cvat_last_keyframe_lasts_and_shapes_may_turn(tmp_path):
    turned = box(0, 10, 5, 20, 9, extra='rotation="350"') + box(2, 10, 5, 20, 9, extra='rotation="10"')
    labels = read_labels(cvat(tmp_path, f'<track id="3" label="dog">{turned}</track>', size=4))
    (track,) = labels.videos[0].tracks
    assert sorted(track.masks) == [0, 1, 2, 3]
    np.testing.assert_array_equal(pixels(track, 1), rectangle(10, 5, 20, 9))  # 350 to 10 degrees passes 0
    assert (pixels(track, 0) != pixels(track, 2)).any()
    np.testing.assert_array_equal(pixels(track, 2), pixels(track, 3))


def test_cvat_polygons_with_other_corners_keep_their_outline(tmp_path):
    four, more = "2,2;10,2;10,10;2,10", "2,2;6,2;10,2;10,10;2,10"
    polygon = '<polygon frame="{}" keyframe="1" outside="0" points="{}"/>'
    track = f'<track id="1" label="cat">{polygon.format(0, four)}{polygon.format(4, more)}</track>'
    (track,) = read_labels(cvat(tmp_path, track)).videos[0].tracks
    for t in range(7):
        np.testing.assert_array_equal(pixels(track, t), rectangle(2, 2, 10, 10))


def test_cvat_masks_of_a_group_are_one_object(tmp_path):
    def mask(track_id, frame, group):
        attributes = 'rle="1, 2, 1, 2" left="5" top="6" width="3" height="2" outside="{}"'
        shapes = f'<mask frame="{frame}" {attributes.format(0)}/><mask frame="{frame + 1}" {attributes.format(1)}/>'
        return f'<track id="{track_id}" label="cat" group_id="{group}">{shapes}</track>'

    labels = read_labels(cvat(tmp_path, mask(0, 0, 7) + mask(1, 2, 7) + mask(2, 2, 8)))
    tracks = {track.id: track for track in labels.videos[0].tracks}
    assert {i: sorted(track.masks) for i, track in tracks.items()} == {7: [0, 2], 8: [2]}
    expected = np.zeros((H, W), bool)
    expected[6:8, 5:8] = [[0, 1, 1], [0, 1, 1]]
    np.testing.assert_array_equal(pixels(tracks[7], 0), expected)


def test_cvat_ellipses_and_steps_between_frames(tmp_path):
    write_frames(tmp_path / "frames" / "clip", [f"{t:05d}.jpg" for t in range(31)])
    ellipse = '<ellipse frame="{}" outside="0" cx="15" cy="10" rx="6" ry="3"/>'
    meta = "<start_frame>5</start_frame><stop_frame>20</stop_frame><frame_filter>step=5</frame_filter>"
    path = cvat(tmp_path, f'<track id="1" label="cat">{ellipse.format(10)}</track>', size=4, meta=meta)
    (video,) = read_labels(path, options=ReadOptions(frames=tmp_path / "frames")).videos
    assert video.file_names == [f"clip/{t:05d}.jpg" for t in (5, 10, 15, 20)]
    assert sorted(video.tracks[0].masks) == [1, 2, 3]
    y, x = np.mgrid[:H, :W] + 0.5
    np.testing.assert_array_equal(pixels(video.tracks[0], 1), ((x - 15) / 6) ** 2 + ((y - 10) / 3) ** 2 <= 1)


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (
            '<track id="1" label="cat"><box frame="99" xtl="1" ytl="1" xbr="2" ybr="2"/></track>',
            "frame 99 is not among",
        ),
        ('<track id="1"><box frame="0" xtl="1" ytl="1" xbr="2" ybr="2"/></track>', "track 1: has no 'label'"),
        ('<track id="1" label="cat"><box frame="0" xtl="x" ytl="1" xbr="2" ybr="2"/></track>', "'xtl' is 'x'"),
        ('<track id="1" label="cat"><box frame="0" xtl="nan" ytl="1" xbr="2" ybr="2"/></track>', "not finite"),
        ('<track id="1" label="cat"><polygon frame="0" points="1;2"/></track>', "'points' is not a list"),
        (
            '<track id="1" label="cat"><mask frame="0" rle="9" left="0" top="0" width="2" height="2"/></track>',
            "run lengths add up to 9",
        ),
        ("<image/>", "export the task in the format 'CVAT for video 1.1'"),
        ("<", "not valid XML"),
    ],
)
def test_cvat_refuses(tracks, message, tmp_path):
    refused(cvat(tmp_path, tracks), message)


def test_xml_that_expands_is_refused(tmp_path):
    path = tmp_path / "bomb.xml"
    entities = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi")
    )
    path.write_text(f"<?xml version='1.0'?><!DOCTYPE x [{entities}]><annotations>&i;</annotations>")
    refused(path, "declares a document type")
    path.write_text('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotations/>')
    refused(path, "declares a document type")


@pytest.mark.parametrize("meta", ["<stop_frame>999999999999</stop_frame>", "<stop_frame>-1</stop_frame>"])
def test_cvat_lengths_that_cannot_be(meta, tmp_path):
    refused(cvat(tmp_path, "", meta=meta), "")


def test_frames_that_cannot_be(tmp_path):
    labelme(tmp_path / "a", "0", [], imageHeight=10**9, imageWidth=10**9)
    refused(tmp_path, "is no size of a frame")


def test_cvat_says_how_many_frames_are_missing(tmp_path):
    write_frames(tmp_path / "frames" / "clip", ["0.jpg", "1.jpg"])
    options = ReadOptions(frames=tmp_path / "frames")
    refused(cvat(tmp_path, ""), "has 7 frames, the last of them number 6, but there are 2 images", options=options)


# COCO


def coco(tmp_path, annotations, **fields):
    images = [
        {"id": t + 1, "video_id": 1, "frame_id": 2 - t, "file_name": f"v/{t}.jpg", "height": H, "width": W}
        for t in range(3)
    ]
    content = {"images": images, "videos": [{"id": 1, "name": "v"}], "categories": [{"id": 3, "name": "cat"}]}
    (tmp_path / "coco.json").write_text(json.dumps({**content, "annotations": annotations, **fields}))
    return tmp_path / "coco.json"


def annotation(image_id, instance_id=5, **fields):
    polygon = [[2, 3, 8, 3, 8, 9, 2, 9]]
    entry = {"id": image_id, "image_id": image_id, "category_id": 3, "instance_id": instance_id}
    return {**entry, "segmentation": polygon, **fields}


def test_coco_video_in_order_of_frame_id_with_polygons_and_boxes(tmp_path):
    boxed = annotation(3, segmentation=[], bbox=[1, 2, 3, 4])
    path = coco(tmp_path, [annotation(1), boxed])
    assert detect_format(path) == "coco-video"
    labels = read_labels(path)
    (video,) = labels.videos
    assert video.file_names == ["v/2.jpg", "v/1.jpg", "v/0.jpg"] and labels.categories == {"cat": 3}
    (track,) = video.tracks
    assert track.id == 5 and sorted(track.masks) == [0, 2]
    np.testing.assert_array_equal(pixels(track, 2), rectangle(2, 3, 8, 9))
    np.testing.assert_array_equal(pixels(track, 0), rectangle(1, 2, 4, 6))
    assert labels.notes["objects have only a box: the box became their mask"] == 1


def test_coco_polygons_without_corners_are_noted(tmp_path):
    seven = [1, 1, 5, 1, 5, 5, 2]
    beside = annotation(1, segmentation=[[2, 3, 8, 3, 8, 9, 2, 9], seven])
    labels = read_labels(coco(tmp_path, [beside, annotation(2, segmentation=[seven, [1, 1, 5, 1]])]))
    (track,) = labels.videos[0].tracks
    assert sorted(track.masks) == [2], "frames count from the last"
    np.testing.assert_array_equal(pixels(track, 2), rectangle(2, 3, 8, 9))
    note = "polygons have less than three corners or an odd number of coordinates and were left out"
    assert labels.notes[note] == 3


def test_ids_from_zero_are_taken_and_numbered_anew(tmp_path):
    images = [{"id": 0, "video_id": 0, "frame_id": 0, "file_name": "v/0.jpg", "height": H, "width": W}]
    track = {**annotation(0, 0), "id": 0}
    labels = read_labels(coco(tmp_path, [track], images=images, videos=[{"id": 0, "name": "v"}]))
    assert [(video.id, video.tracks[0].id) for video in labels.videos] == [(1, 1)]
    content = {
        "videos": [{"id": i, "height": H, "width": W, "file_names": [f"{i}/0.jpg"]} for i in (0, 1)],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [
            {"id": i, "video_id": i, "category_id": 0, "segmentations": [track["segmentation"]]} for i in (0, 1)
        ],
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    labels = read_labels(tmp_path / "own.json")
    assert [(video.id, video.name, video.tracks[0].id) for video in labels.videos] == [(1, "0", 1), (2, "1", 2)]
    assert labels.notes["ids of tracks occur twice or are not positive: all numbered from 1"] == 1
    content["annotations"][0]["id"] = "0"
    (tmp_path / "own.json").write_text(json.dumps(content))
    refused(tmp_path / "own.json", "annotation 0, field 'id': expected an integer, found '0'")


def test_coco_images_are_grouped_by_folder_or_name(tmp_path):
    names = ["b/2.jpg", "b/10.jpg", "a/1.jpg"]
    images = [{"id": i + 1, "file_name": name, "height": H, "width": W} for i, name in enumerate(names)]
    track = annotation(1, None, attributes={"track_id": "4"})
    path = coco(tmp_path, [track, {**track, "id": 2, "image_id": 2}], images=images)
    content = json.loads(path.read_text())
    del content["videos"]
    path.write_text(json.dumps(content))
    assert detect_format(path) == "coco"
    labels = read_labels(path)
    assert [video.file_names for video in labels.videos] == [["a/1.jpg"], ["b/2.jpg", "b/10.jpg"]]
    assert sorted(labels.videos[1].tracks[0].masks) == [0, 1]
    content["images"] = [{**image, "file_name": image["file_name"].replace("/", "_")} for image in images]
    path.write_text(json.dumps(content))
    assert [video.name for video in read_labels(path).videos] == ["a", "b"]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([annotation(9)], "field 'image_id': no image 9"),
        ([annotation(1, category_id=4)], "field 'category_id': 4 is not among"),
        (
            [annotation(1), {**annotation(1), "id": 8}],
            "annotation 8, field 'image_id': track 5 occurs twice in image 1",
        ),
        ([annotation(1, None)], "has no track id"),
        ([annotation(1, segmentation={"size": [H, W], "counts": "?"})], "annotation 1"),
    ],
)
def test_coco_refuses(annotations, message, tmp_path):
    refused(coco(tmp_path, annotations), message)


# DAVIS, YouTube-VOS


def palette_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8), mode="P")
    image.putpalette(list(range(256)) * 3)
    image.save(path)


def test_youtube_vos_with_classes_and_sparse_labels(tmp_path):
    values = rectangle(1, 1, 5, 5) * 1 + rectangle(10, 10, 20, 15) * 4 + rectangle(25, 0, 30, 20) * 255
    palette_png(tmp_path / "Annotations" / "v" / "00005.png", values)
    write_frames(tmp_path / "JPEGImages" / "v", ["00000.jpg", "00005.jpg"])
    meta = {"videos": {"v": {"objects": {"1": {"category": "dog"}, "4": {"category": "ape"}}}}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    assert detect_format(tmp_path) == "davis"
    labels = read_labels(tmp_path)
    (video,) = labels.videos
    assert video.file_names == ["v/00005.jpg"] and labels.frames == tmp_path / "JPEGImages"
    assert labels.categories == {"ape": 1, "dog": 2}
    assert [track.category for track in video.tracks] == ["dog", "ape"], "255 is undecided, no object"
    np.testing.assert_array_equal(pixels(video.tracks[1], 0), rectangle(10, 10, 20, 15))


def test_davis_2016_and_the_folder_of_its_resolution(tmp_path):
    palette_png(tmp_path / "Annotations" / "480p" / "v" / "0.png", rectangle(1, 1, 5, 5) * 255)
    write_frames(tmp_path / "JPEGImages" / "480p" / "v", ["0.jpg"])
    labels = read_labels(tmp_path)
    assert labels.frames == tmp_path / "JPEGImages" / "480p" and labels.categories == {"object": 1}
    np.testing.assert_array_equal(pixels(labels.videos[0].tracks[0], 0), rectangle(1, 1, 5, 5))


def test_davis_refuses(tmp_path):
    write_frames(tmp_path / "Annotations" / "v", ["0.png"])
    refused(tmp_path, "its pixels are RGB")
    palette_png(tmp_path / "Annotations" / "v" / "0.png", np.zeros((H, W)))
    palette_png(tmp_path / "Annotations" / "v" / "1.png", np.zeros((H, W + 1)))
    refused(tmp_path, "label maps of different sizes")
    (tmp_path / "Annotations" / "v" / "1.png").write_bytes(b"no image")
    refused(tmp_path, "cannot be read as an image")


# MOTS


def line(frame, object_id, class_id, mask):
    return f"{frame} {object_id} {class_id} {H} {W} {mask_rle(mask)['counts']}\n"


def test_mots_text_and_maps_say_the_same(tmp_path):
    car, walker = rectangle(1, 1, 9, 9), rectangle(12, 3, 15, 18)
    (tmp_path / "t" / "instances_txt").mkdir(parents=True)
    ignored = line(1, 10000, 10, rectangle(20, 0, 30, 9))
    text = line(0, 1001, 1, car) + line(2, 1001, 1, car) + line(2, 2003, 2, walker) + ignored
    (tmp_path / "t" / "instances_txt" / "0002.txt").write_text(text)
    folder = tmp_path / "p" / "instances" / "0002"
    folder.mkdir(parents=True)
    for t, values in enumerate((car * 1001, rectangle(20, 0, 30, 9) * 10000, car * 1001 + walker * 2003)):
        Image.fromarray(values.astype(np.uint16)).save(folder / f"{t:06d}.png")
    for root in (tmp_path / "t", tmp_path / "p"):
        assert detect_format(root) == "mots"
        labels = read_labels(root)
        (video,) = labels.videos
        assert (video.name, len(video.file_names)) == ("0002", 3)
        assert labels.categories == {"car": 1, "pedestrian": 2}
        assert [(track.category, sorted(track.masks)) for track in video.tracks] == [
            ("car", [0, 2]),
            ("pedestrian", [2]),
        ]
        np.testing.assert_array_equal(pixels(video.tracks[1], 2), walker)
        assert labels.notes["regions to be ignored were left out"] == 1


def test_mots_challenge_counts_frames_from_one(tmp_path):
    (tmp_path / "S-02" / "gt").mkdir(parents=True)
    (tmp_path / "S-02" / "gt" / "gt.txt").write_text(line(2, 2001, 2, rectangle(0, 0, 2, 2)))
    write_frames(tmp_path / "S-02" / "img1", [f"{t:06d}.jpg" for t in (1, 2, 3)])
    (video,) = read_labels(tmp_path).videos
    assert video.file_names == [f"S-02/img1/{t:06d}.jpg" for t in (1, 2, 3)]
    assert list(video.tracks[0].masks) == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1001 1 20\n", "0002.txt: line 1: expected"),
        (line(0, 1001, 1, rectangle(0, 0, 2, 2)) * 2, "line 2: object 1001 occurs twice in frame 0"),
        (f"0 1001 1 {H} {W} ???\n", "line 1"),
    ],
)
def test_mots_refuses(text, message, tmp_path):
    (tmp_path / "instances_txt").mkdir()
    (tmp_path / "instances_txt" / "0002.txt").write_text(text)
    refused(tmp_path, message)


# SA-V


def test_masklets_lie_on_every_fourth_frame(tmp_path):
    write_frames(tmp_path / "sav_1", [f"{t:05d}.jpg" for t in range(9)])
    blob, nothing = mask_rle(rectangle(1, 1, 9, 9)), {"size": [H, W], "counts": mask_counts_of_nothing()}
    content = {
        "video_id": "sav_1",
        "video_height": float(H),
        "video_width": float(W),
        "video_frame_count": 9.0,
        "masklet": [[blob, nothing], [blob, blob], [nothing, blob]],
        "masklet_id": [0, 7],
    }
    (tmp_path / "sav_1_manual.json").write_text(json.dumps(content))
    (tmp_path / "sav_1_auto.json").write_text(json.dumps({**content, "masklet_id": [0, 1]}))
    assert detect_format(tmp_path) == "sa-v"
    (video,) = read_labels(tmp_path).videos
    assert video.file_names == [f"sav_1/{t:05d}.jpg" for t in (0, 4, 8)]
    assert {track.key: sorted(track.masks) for track in video.tracks} == {
        "auto0": [0, 1],
        "auto1": [1, 2],
        "manual0": [0, 1],
        "manual7": [1, 2],
    }


def mask_counts_of_nothing():
    from vis_core.tube import encode_masks

    return encode_masks(np.zeros((1, H, W), bool))[0]["counts"]


def test_a_masklet_file_cannot_name_a_folder_outside(tmp_path):
    content = {"video_id": "../x", "video_height": H, "video_width": W, "masklet": [[]]}
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a_manual.json").write_text(json.dumps(content))
    refused(tmp_path / "labels", "leads out of")


# All


def test_nothing_recognised(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    refused(tmp_path, "not recognised as any of ytvis, coco-video")
    refused(tmp_path / "none", "no such file or folder")
    refused(tmp_path, "--from yolo: not one of", from_format="yolo")
    refused(tmp_path, "is a folder", from_format="ytvis")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    labelme(outside, "0", [])
    (tmp_path / "labels").mkdir()
    labelme(tmp_path / "labels" / "a", "0", [])
    (tmp_path / "labels" / "a" / "1.json").symlink_to(outside / "0.json")
    refused(tmp_path / "labels", "leads out of")
