"""What CLIP methods share: sentences of many classes read in portions."""

from __future__ import annotations

import torch

from cl_core.methods import clip_method


def test_class_texts_do_not_depend_on_how_many_sentences_are_read_at_once(tiny_trainer, monkeypatch):
    trainer = tiny_trainer("zero_shot", backbone="random-clip", stream="synthetic-domains", tasks=2)
    method, backbone = trainer.method, trainer.backbone
    method.prepare_classifier(backbone)
    whole, read = method.class_texts, []

    def encode(tokens, *, intact=backbone.encode_text, **others):
        read.append(len(tokens))
        return intact(tokens, **others)

    monkeypatch.setattr(backbone, "encode_text", encode)
    monkeypatch.setattr(clip_method, "TEXTS", 3)
    method.prepare_classifier(backbone)
    assert max(read) == 3 and sum(read) == sum(map(len, method._ensembles))
    torch.testing.assert_close(method.class_texts, whole)
