import numpy as np
import pytest
import torch
from torch.nn import functional as F

import vis_core  # noqa: F401  makes detectron2 importable
from vis_core.tracking import EmbeddingBank, similarity_guided
from vis_core.tracking.embedding_bank import UPDATES


class PlainBank:
    """One list a track, updated one by one: the rules as one would write them down."""

    def __init__(self, rule, cache):
        self.rule, self.cache = rule, cache
        self.tracks = {}

    def update(self, ids, frame, embeds, scores):
        for id_, embed, score in zip(ids, embeds, scores):
            if id_ not in self.tracks:
                self.tracks[id_] = {"fused": embed, "history": [embed], "scores": [score], "frames": 1, "last": frame}
                continue
            track = self.tracks[id_]
            if self.rule == "similarity_guided":
                cosines = [F.cosine_similarity(e, embed, dim=0) for e in track["history"]]
                weight = max(sum(cosines) / len(cosines), torch.tensor(0.0))
                track["fused"] = (1 - weight) * track["fused"] + weight * embed
            elif self.rule == "momentum":
                track["fused"] = 0.25 * track["fused"] + 0.75 * embed
            track["history"] = [*track["history"], embed][-self.cache :]
            track["scores"] = [*track["scores"], score][-self.cache :]
            if self.rule == "last":
                track["fused"] = embed
            elif self.rule == "time_weighted":
                n = len(track["history"])
                weights = [s + k / n for k, s in enumerate(track["scores"], 1)]
                track["fused"] = sum(w * e for w, e in zip(weights, track["history"])) / sum(weights)
            track["frames"] += 1
            track["last"] = frame

    def evict(self, frame, max_absence):
        self.tracks = {i: t for i, t in self.tracks.items() if frame - t["last"] <= max_absence}


@pytest.mark.parametrize("rule", UPDATES)
@pytest.mark.parametrize("cache", [1, 3, 10])
def test_as_the_plain_bank(rule, cache):
    rs = np.random.RandomState(cache)
    bank, plain = EmbeddingBank(rule, cache), PlainBank(rule, cache)
    for frame in range(25):
        ids = rs.permutation(8 + frame // 5)[: rs.randint(0, 6)].tolist()
        # Like each other from frame to frame, so that some cosines are positive.
        embeds = torch.tensor([[np.cos(i), np.sin(i), 0.3] for i in ids]).float().reshape(-1, 3)
        embeds = embeds + 0.7 * torch.from_numpy(rs.standard_normal((len(ids), 3))).float()
        scores = torch.from_numpy(rs.random_sample(len(ids))).float()
        for b in (bank, plain):
            if ids:
                b.update(ids, frame, embeds, scores)
            b.evict(frame, 4)
        assert bank.ids == list(plain.tracks)
        assert bank.num_frames == [t["frames"] for t in plain.tracks.values()]
        assert bank.last_frames == [t["last"] for t in plain.tracks.values()]
        if bank.ids:
            expected = torch.stack([t["fused"] for t in plain.tracks.values()])
            torch.testing.assert_close(bank.fused, expected, rtol=1e-5, atol=1e-5)


def test_momentum_is_the_share_of_the_new():
    bank = EmbeddingBank("momentum", momentum=0.2)
    for frame, embed in enumerate(([1.0, 0.0], [0.0, 1.0])):
        bank.update([0], frame, torch.tensor([embed]), torch.ones(1))
    torch.testing.assert_close(bank.fused, torch.tensor([[0.8, 0.2]]))


def test_opposite_observations_change_nothing():
    fused = torch.tensor([[1.0, 0.0]])
    moved = similarity_guided(fused, -fused, fused[:, None], torch.ones(1, 1, dtype=torch.bool))
    assert moved.tolist() == fused.tolist()


def test_the_bank_keeps_no_reference_to_what_it_was_given():
    bank, embeds = EmbeddingBank(), torch.ones(1, 2)
    bank.update([3], 0, embeds, torch.ones(1))
    embeds.zero_()
    assert bank.fused.tolist() == [[1.0, 1.0]]


def test_a_track_stays_while_it_is_absent_for_as_long_as_allowed():
    bank = EmbeddingBank()
    bank.update([0], 5, torch.ones(1, 2), torch.ones(1))
    bank.evict(25, 20)
    assert len(bank) == 1
    bank.evict(26, 20)
    assert len(bank) == 0
    bank.update([1], 27, torch.ones(1, 2), torch.ones(1))
    assert bank.ids == [1]


def test_unknown_rule():
    with pytest.raises(ValueError, match="nearest"):
        EmbeddingBank("nearest")
