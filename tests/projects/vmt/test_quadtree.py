import torch

import projects  # noqa: F401
from projects.vmt.features import MaskMaps
from projects.vmt.quadtree import NodeLayer, QuadtreeRefiner
from projects.vmt.quadtree_grid import (
    children_of,
    flatten_levels,
    grid_places,
    grow_tree,
    pick_nodes,
    place_code,
    places_in_boxes,
    resize,
    split_levels,
)
from projects.vmt.quadtree_losses import quadtree_labels, quadtree_losses
from projects.vmt.refiner import RefineInputs

SIZES = [(3, 4), (6, 8), (12, 15)]  # of levels; an odd side of the finest


def make_refiner(**options) -> QuadtreeRefiner:
    torch.manual_seed(0)
    sizes = {"map_dim": 8, "query_dim": 8, "dim": 16, "detector_dim": 4, "num_layers": 2, "num_heads": 2}
    return QuadtreeRefiner(**{**sizes, "dim_feedforward": 16, **options})


def make_inputs(num_frames: int = 2, num_instances: int = 3, seed: int = 0) -> tuple[RefineInputs, torch.Tensor]:
    """Inputs at SIZES, and true masks of twice the finest size that the second stage does not know exactly."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    (h8, w8), (h4, w4), (h2, w2) = SIZES
    labels = torch.zeros(num_instances, num_frames, 2 * h2, 2 * w2, dtype=torch.bool)
    for n in range(num_instances):
        labels[n, :, 3 + n : 15 + n, 5 + 2 * n : 18 + 3 * n] = True
    second = torch.where(resize(labels.float(), (h4, w4)) > 0.5, 3.0, -3.0).transpose(0, 1)
    boxes = torch.tensor([5.0, 3.0, 18.0, 15.0]).expand(num_frames, num_instances, 4)
    maps = MaskMaps(randn(num_frames, 8, h8, w8), randn(num_frames, 8, h4, w4), randn(num_frames, 8, h4, w4))
    inputs = RefineInputs(
        maps,
        randn(num_frames, 8, h2, w2),
        randn(num_frames, num_instances, h8, w8),
        second,
        randn(num_instances, 8),
        boxes[..., :2],
        boxes,
    )
    return inputs, labels


def test_levels_in_one_row_and_back():
    maps = [torch.randn(3, 2, *size) for size in SIZES]
    row = flatten_levels(maps, 1)
    assert row.shape == (3, 2 * (12 + 48 + 180))
    for one, two in zip(split_levels(row, SIZES, 2), maps):
        assert torch.equal(one, two)
    assert len(grid_places(SIZES, 2)) == row.shape[1]


def test_cells_lie_in_the_middle_of_their_children():
    places = split_levels(grid_places([(2, 2), (4, 4)], 2).T, [(2, 2), (4, 4)], 2)
    coarse, fine = places  # (3, T, h, w): frame, row, column
    assert torch.equal(coarse[0], torch.tensor([0.0, 1.0])[:, None, None].expand(2, 2, 2))
    means = torch.nn.functional.avg_pool2d(fine[1:], 2)
    assert torch.equal(coarse[1:], means)


def test_codes_tell_all_places_apart():
    places = grid_places(SIZES[2:], 5)
    codes = place_code(places, 16)
    assert codes.shape == (len(places), 16) and codes.abs().max() <= 1
    distance = torch.cdist(codes, codes) + 10 * torch.eye(len(codes))
    assert distance.min() > 1e-3


def test_children():
    cells = torch.tensor([[[[True, False], [False, True]]]])
    children = children_of(cells, (4, 3))
    assert children[0, 0].int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]


def test_a_node_needs_its_parent():
    root = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    root[..., 0, 0] = True
    middle = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    middle[..., 0, 0] = False
    tree = grow_tree([root, middle, torch.ones(1, 1, 8, 8, dtype=torch.bool)])
    assert [int(level.sum()) for level in tree] == [1, 3, 12]
    assert not tree[2][..., :2, :2].any()


def test_nodes_that_are_picked():
    tree = [torch.tensor([[[[True, False]]], [[[False, False]]]]), torch.ones(2, 1, 1, 4, dtype=torch.bool)]
    tree[1][1] = False
    scores = [torch.tensor([[[[5.0, 9.0]]]] * 2), torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]] * 2)]
    index, valid = pick_nodes(tree, scores, max_nodes=3)
    assert sorted(index[0].tolist()) == [0, 4, 5] and valid[0].all() and not valid[1].any()
    index, valid = pick_nodes([~x & x for x in tree], scores, max_nodes=3)
    assert index.shape == (2, 1) and not valid.any()
    assert pick_nodes([x[:0] for x in tree], [x[:0] for x in scores], 3)[0].shape == (0, 1)


def test_places_in_boxes():
    places = torch.tensor([[0.0, 5.0, 10.0], [1.0, 8.0, 10.0], [1.0, 500.0, 10.0]])
    boxes = torch.tensor([[[10.0, 4.0, 30.0, 16.0], [10.0, 4.0, 30.0, 16.0]]])  # centre (20, 10) in pixels
    found = places_in_boxes(places, boxes, torch.tensor([[0, 1, 2]]))
    assert found[0].tolist() == [[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]]


def test_at_first_nothing_is_corrected():
    inputs, _ = make_inputs()
    output = make_refiner(threshold=0.0)(inputs)
    assert output.losses == {} and output.selected.all()
    assert output.masks.shape == (2, 3, 24, 30)
    far = resize(inputs.second, SIZES[2])
    assert ((output.masks[..., ::2, ::2] > 0) == (far > 0)).float().mean() > 0.9


def randomly_correcting(**options) -> QuadtreeRefiner:
    refiner = make_refiner(**options)
    torch.nn.init.normal_(refiner.correct[-1].weight)
    return refiner


def test_masks_change_below_nodes_only():
    inputs, labels = make_inputs()
    refiner = randomly_correcting(threshold=2.0)  # of its own the detector finds none
    base = refiner(inputs)
    assert not base.selected.any()
    features = [resize(inputs.maps.base, SIZES[0]), inputs.maps.base, inputs.detail]
    second = inputs.second.transpose(0, 1)
    known = quadtree_labels(labels, second, SIZES)
    tree = refiner.correct_masks(features, second, inputs.queries, inputs.boxes.transpose(0, 1), known)
    roots, middle, leaves = tree.nodes
    untouched = ~(children_of(children_of(roots, SIZES[1]) | middle, SIZES[2]) | leaves)
    plain = resize(second, SIZES[2])
    assert untouched.any() and not untouched.all()
    assert torch.equal(tree.masks[untouched], plain[untouched])
    changed = ~untouched
    assert (tree.masks[changed] != plain[changed]).float().mean() > 0.9


def test_frames_of_a_window_see_each_other_and_instances_do_not():
    refiner = randomly_correcting(threshold=0.0)
    inputs, _ = make_inputs()

    def masks(inputs):
        with torch.no_grad():
            return refiner(inputs).masks

    base = masks(inputs)
    detail = inputs.detail.clone()
    detail[1] += 1
    other_frame = masks(inputs._replace(detail=detail))
    assert not torch.allclose(other_frame[0], base[0], atol=1e-5)
    queries = inputs.queries.clone()
    queries[2] += 1
    other_query = masks(inputs._replace(queries=queries))
    torch.testing.assert_close(other_query[:, :2], base[:, :2])
    assert not torch.allclose(other_query[:, 2], base[:, 2], atol=1e-5)


def test_instances_with_fewer_nodes_are_not_disturbed_by_the_placeholders():
    layer = NodeLayer(8, 2, 16)
    nodes, codes = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    valid = torch.tensor([[True, True, True, False, False]])
    alone = layer(nodes[:, :3], codes[:, :3], valid[:, :3])
    torch.testing.assert_close(layer(nodes, codes, valid)[:, :3], alone)
    assert layer(nodes, codes, torch.zeros_like(valid)).isfinite().all()


def test_labels_and_losses():
    inputs, labels = make_inputs()
    second = inputs.second.transpose(0, 1)
    cells = quadtree_labels(labels, second, SIZES)
    assert [tuple(x.shape) for x in cells] == [(3, 2, *size) for size in SIZES]
    wrong = quadtree_labels(labels, -second, SIZES)
    assert all(int(a.sum()) < int(b.sum()) for a, b in zip(cells, wrong))
    tree = make_refiner().correct_masks(
        [resize(inputs.maps.base, SIZES[0]), inputs.maps.base, inputs.detail],
        second,
        inputs.queries,
        inputs.boxes.transpose(0, 1),
        cells,
    )
    losses = quadtree_losses(tree, labels, cells)
    good = tree._replace(
        incoherence=[torch.where(x, 20.0, -20.0) for x in cells],
        levels=[resize(labels.float(), size).clamp(1e-6, 1 - 1e-6).logit() for size in SIZES],
    )
    for name, loss in quadtree_losses(good, labels, cells).items():
        assert loss < losses[name], name


def test_correcting_can_be_learned():
    """What the second stage's map of stride 4 got wrong is learned from the map of stride 2."""
    inputs, labels = make_inputs(num_instances=1)
    truth = resize(labels.float(), SIZES[2])[0, :, None]
    inputs = inputs._replace(detail=inputs.detail + 3 * truth)
    refiner = make_refiner()
    optimizer = torch.optim.AdamW(refiner.parameters(), lr=1e-2)
    wanted = labels.transpose(0, 1)

    def errors() -> int:
        with torch.no_grad():
            return int(((refiner(inputs).masks > 0) != wanted).sum())

    before = errors()
    for _ in range(60):
        output = refiner(inputs, labels)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(output.masks, wanted.float())
        optimizer.zero_grad()
        (loss + sum(output.losses.values())).backward()
        optimizer.step()
    assert errors() < 0.5 * before
