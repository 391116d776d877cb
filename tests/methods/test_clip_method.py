"""What CLIP methods share: sentences of many classes read in portions."""

from __future__ import annotations

import torch

from cl_core.methods.parts import clip_method


def counted(monkeypatch, backbone):
    """Sizes of the portions that the text tower reads from now on."""
    read = []

    def encode(tokens, *, intact=backbone.encode_text, **others):
        read.append(len(tokens))
        return intact(tokens, **others)

    monkeypatch.setattr(backbone, "encode_text", encode)
    return read


def test_class_texts_do_not_depend_on_how_many_sentences_are_read_at_once(tiny_trainer, monkeypatch):
    trainer = tiny_trainer("zero_shot", backbone="random-clip", stream="synthetic-domains", tasks=2)
    method = trainer.method
    whole, read = method.class_texts, counted(monkeypatch, trainer.backbone)
    monkeypatch.setattr(clip_method, "TEXTS", 3)
    method.refresh()
    again = method.class_texts
    assert max(read) == 3 and sum(read) == sum(map(len, method._ensembles))
    torch.testing.assert_close(again, whole)


def test_classes_are_read_once_a_measurement_and_anew_when_weights_have_moved(tiny_trainer, monkeypatch):
    trainer = tiny_trainer("finetune", backbone="random-clip", stream="synthetic-domains", tasks=2)
    sentences, read = sum(map(len, trainer.method._ensembles)), counted(monkeypatch, trainer.backbone)
    general = trainer.stream.general
    of_gap = len(general.pairs) + sum(map(len, general.words.texts()))
    for moment in trainer.run():
        kinds = {event.kind for event in moment}
        if "AccuracyMeasured" in kinds:
            assert {"AttentionCompared", "SimilaritiesMeasured"} <= kinds or moment[0].kind == "RunStarted"
            assert sum(read) == sentences + of_gap
        read.clear()
    texts = trainer.method.class_texts
    assert trainer.method.class_texts is texts
    with torch.no_grad():
        next(p for name, p in trainer.method.named_parameters() if "positional" in name).add_(0.1)
    assert not torch.equal(trainer.method.class_texts, texts)
