"""Stage one of the embedded backbones: a 5 MB ViT that learned to name what the micro world shows.

A genuine timm vision transformer (width 192, 3 heads, 6 blocks, 17 tokens) is trained to read the eight attributes
of procedural images of shapes and letters. It never sees a digit, so Split-Digits is new to it. The contrastive
stage of the micro-CLIP starts from these weights.

Shapes: B batch, 3 × 32 × 32 images, D = 192 width.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.pretraining.trainer import Course, follow, write_card
from cl_core.synthetic_world import (
    ATTRIBUTE_SIZES,
    DIGIT_KINDS,
    LETTER_KINDS,
    SHAPE_KINDS,
    Scenes,
    draw,
    sample_scenes,
)

KINDS_SHOWN = [*SHAPE_KINDS, *LETTER_KINDS]  # shapes and letters only
HEADS = {**ATTRIBUTE_SIZES, "kind": len(KINDS_SHOWN)}
MEAN, STD = 0.5, 0.5  # images 0..1 become −1..1


@dataclass(frozen=True)
class MicroVitSettings:
    """The recipe. Everything that decides the weights is here; the same settings on a CPU repeat them."""

    images: int = 1_100_000
    batch: int = 192
    seed: int = 0
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warm_up_steps: int = 200
    flat: float = 0.6  # share of the run at the full learning rate; then linearly down
    final_rate: float = 0.02  # share of the learning rate left at the end
    average: float = 0.999  # decay of the running average of the weights, which is what gets exported
    kind_weight: float = 2.0
    other_weight: float = 0.5
    clip: float = 1.0  # largest gradient norm
    width: int = 192
    heads: int = 3
    depth: int = 6

    def __post_init__(self) -> None:
        if self.images < self.batch:
            raise ValueError(f"images must be at least one batch of {self.batch}, got {self.images}")

    @property
    def steps(self) -> int:
        return self.images // self.batch

    @property
    def architecture(self) -> dict[str, Any]:
        """Keyword arguments for `timm.create_model`."""
        return {
            "model_name": "vit_tiny_patch16_224",
            "img_size": 32,
            "patch_size": 8,
            "embed_dim": self.width,
            "num_heads": self.heads,
            "depth": self.depth,
            "num_classes": 0,
        }


class AttributeReader(nn.Module):
    """The trunk and one linear head for all attributes together."""

    def __init__(self, settings: MicroVitSettings):
        super().__init__()
        self.trunk = cast(VisionTransformer, timm.create_model(**settings.architecture))
        self.head = nn.Linear(settings.width, sum(HEADS.values()))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, 32, 32] normalised → logits of every attribute [B, values]."""
        logits = self.head(self.trunk(images)).float()
        return dict(zip(HEADS, logits.split(list(HEADS.values()), dim=1), strict=True))


def normalise(images: Tensor) -> Tensor:
    return (images - MEAN) / STD


def attribute_loss(logits: dict[str, Tensor], scenes: Scenes, settings: MicroVitSettings) -> Tensor:
    """2 × cross-entropy of the kind + 0.5 × the sum over the other attributes."""
    targets = scenes.as_dict()
    weights = {name: settings.kind_weight if name == "kind" else settings.other_weight for name in HEADS}
    return cast(Tensor, sum(weights[name] * F.cross_entropy(logits[name], targets[name]) for name in HEADS))


def pretrain(settings: MicroVitSettings, folder: Path, *, device: str = "cpu", **options: Any) -> dict[str, Any] | None:
    """Train, measure, export; `options` are those of `trainer.follow`. "cuda" does not repeat exactly, "cpu" does."""
    return follow(AttributeCourse(settings, device), folder, **options)


class AttributeCourse(Course):
    """Learning to read the eight attributes."""

    model: AttributeReader
    average: AttributeReader

    def build(self) -> AttributeReader:
        return AttributeReader(self.settings)

    def batch_loss(self) -> Tensor:
        scenes = sample_scenes(self.settings.batch, self.generator, kinds=KINDS_SHOWN)
        images = normalise(draw(scenes, self.generator))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(images)
        return attribute_loss(logits, scenes, self.settings)

    def evaluate(self, count: int) -> dict[str, Any]:
        return evaluate(self.average, count, str(self.device))

    def summary(self, measured: dict[str, Any]) -> str:
        seen, held_out, probe = measured["seen"], measured["held_out"], measured["digits_probe"]
        others = ", ".join(
            f"{name} {seen[name]}" for name in ("colour", "texture", "size", "count", "position", "style")
        )
        return (
            f"kind {seen['kind']} seen, {held_out['kind']} held-out; {others}; "
            f"digits probe {probe['class_token']} / {probe['class_token_and_mean']}"
        )

    def presentable(self, measured: dict[str, Any]) -> bool:
        return measured["seen"]["kind"] >= 50.0

    def last_measures(self) -> dict[str, Any]:
        untrained = AttributeCourse(self.settings, str(self.device)).average
        return {"digits_probe_untrained": digits_probe(untrained.trunk, str(self.device))}

    def export(self, folder: Path, measured: dict[str, Any], *, complete: bool) -> dict[str, Any]:
        return export(self, folder, measured, complete=complete)


@torch.inference_mode()
def evaluate(model: AttributeReader, count: int, device: str) -> dict[str, Any]:
    """Accuracy in percent on fresh images, of seen and of held-out combinations, and the probe on real digits.

    Args:
        count: images of each sort; always the same ones, apart from training's.
    """
    result: dict[str, Any] = {"count": count}
    for name, held_out, seed in (("seen", False, 10_001), ("held_out", True, 10_002)):
        generator = torch.Generator(device=device).manual_seed(seed)
        correct = {attribute: 0 for attribute in (*HEADS, "shape", "letter")}
        shapes = done = 0
        while done < count:
            size = min(256, count - done)
            scenes = sample_scenes(size, generator, kinds=KINDS_SHOWN, held_out=held_out)
            logits = model(normalise(draw(scenes, generator)))
            for attribute, targets in scenes.as_dict().items():
                hits = logits[attribute].argmax(1) == targets
                correct[attribute] += int(hits.sum())
                if attribute == "kind":
                    is_shape = targets < SHAPE_KINDS.stop
                    correct["shape"] += int((hits & is_shape).sum())
                    correct["letter"] += int((hits & ~is_shape).sum())
                    shapes += int(is_shape.sum())
            done += size
        totals = {**dict.fromkeys(HEADS, count), "shape": max(shapes, 1), "letter": max(count - shapes, 1)}
        result[name] = {attribute: round(100 * correct[attribute] / totals[attribute], 2) for attribute in correct}
    result["digits_probe"] = digits_probe(model.trunk, device)
    return result


@torch.inference_mode()
def digits_probe(trunk: VisionTransformer, device: str) -> dict[str, float]:
    """Ridge regression from frozen features to scikit-learn's real digits: 1,000 train, 297 validation, 500 test.

    The penalty is chosen on the validation split; then the regression is refitted on both. Three kinds of features:
    raw 8 × 8 pixels, the class token, the class token beside the mean of the patch tokens.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    labels = torch.as_tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pixels = torch.as_tensor(data.images, dtype=torch.float32)[:, None] / 16  # [1797, 1, 8, 8] in 0..1
    images = F.interpolate(pixels, size=32, mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
    tokens = torch.cat([trunk.forward_features(normalise(part.to(device))).float().cpu() for part in images.split(256)])
    features = {
        "pixels": pixels.flatten(1),
        "class_token": tokens[:, 0],
        "class_token_and_mean": torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1),
    }
    train, validation, test = order[:1000], order[1000:1297], order[1297:]
    result = {}
    for name, values in features.items():
        values = values.double()
        values = (values - values[train].mean(0)) / (values[train].std(0) + 1e-6)
        scores = {
            penalty: _ridge_accuracy(values, labels, train, validation, penalty)
            for penalty in (1e-1, 1e0, 1e1, 1e2, 1e3)
        }
        best = max(scores, key=lambda penalty: scores[penalty])
        result[name] = round(_ridge_accuracy(values, labels, order[:1297], test, best), 2)
    return result


def _ridge_accuracy(features: Tensor, labels: Tensor, train: Tensor, test: Tensor, penalty: float) -> float:
    """Percent right of argmax x W,  W = (XᵀX + λI)⁻¹ XᵀY,  Y one-hot, X with a constant column."""
    features = torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], dim=1)
    x, y = features[train], F.one_hot(labels[train], len(DIGIT_KINDS)).to(features.dtype)
    weights = torch.linalg.solve(x.mT @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype), x.mT @ y)
    return 100 * float(((features[test] @ weights).argmax(1) == labels[test]).double().mean())


def export(course: AttributeCourse, folder: Path, measured: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    """Write weights (half precision), their description and their card; each file replaced in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().cpu().contiguous() for name, value in course.average.trunk.state_dict().items()}
    temporary = folder / "model.partial"
    save_file(weights, temporary, metadata={"format": "pt"})
    card = {
        "name": "micro-vit",
        "complete": complete,
        "architecture": course.settings.architecture,
        "parameters": sum(value.numel() for value in weights.values()),
        "image_size": 32,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "weights_file": "model.safetensors",
        "weights_sha256": hashlib.sha256(temporary.read_bytes()).hexdigest(),
        "weights_bytes": temporary.stat().st_size,
        "weights_precision": "float16",
        "classes_seen": "12 shapes and 26 letters; no digits",
        "accuracy_percent": measured,
        **course.made_how(("torch", "timm", "scikit-learn", "matplotlib")),
    }
    os.replace(temporary, folder / "model.safetensors")
    write_card(folder, card, model_card(card))
    return card


def model_card(card: dict[str, Any]) -> str:
    """The README beside the weights, from the same numbers as config.json."""
    measured, recipe = card["accuracy_percent"], card["recipe"]
    architecture = dict(card["architecture"])
    arguments = ", ".join([repr(architecture.pop("model_name")), *(f"{k}={v}" for k, v in architecture.items())])
    attributes = ["kind", "shape", "letter", *(name for name in HEADS if name != "kind")]
    rows = "\n".join(f"| {name} | {measured['seen'][name]} | {measured['held_out'][name]} |" for name in attributes)
    probe, bare = measured["digits_probe"], measured.get("digits_probe_untrained")
    probe_rows = [f"| raw pixels (64 numbers) | {probe['pixels']} |"]
    for name, words in (("class_token", "class token"), ("class_token_and_mean", "class token and mean of patches")):
        if bare:
            probe_rows.append(f"| untrained network, {words} | {bare[name]} |")
        probe_rows.append(f"| micro-vit, {words} | {probe[name]} |")
    curve = "\n".join(
        f"| {entry['images']:,} | {entry['seen']['kind']} | {entry['held_out']['kind']} "
        f"| {entry['digits_probe']['class_token']} |"
        for entry in [*card["history"], measured]
    )
    interim = "" if card["complete"] else "\n**Interim weights: the training that makes them had not ended.**\n"
    return f"""# micro-vit
{interim}
A small vision transformer for continual-learning experiments that must start without a network. It is a plain timm
model: {card["parameters"]:,} parameters, {card["weights_bytes"] / 1e6:.1f} MB in half precision.

```python
model = timm.create_model({arguments})
model.load_state_dict(safetensors.torch.load_file("model.safetensors"), strict=True)   # images: (x − 0.5) / 0.5
```

## Data and recipe

Procedural images, 32 × 32, made while training and never stored: 12 shapes and 26 letters in 12 colours, 6 textures,
3 sizes, 1–4 copies, 5 places, 12 background colours, 4 styles. **No digit was ever shown, no photograph, no label
made by a person.** One combination in eleven of kind, colour and texture was kept out of training (the "held-out"
column). The letters come from fonts that matplotlib carries (DejaVu, STIX, Computer Modern).

Trained to name all eight attributes: loss {recipe["kind_weight"]} × kind + {recipe["other_weight"]} × each other.
{card["images_seen"]:,} images, batch {recipe["batch"]}, AdamW {recipe["learning_rate"]} (betas {recipe["betas"]},
decay {recipe["weight_decay"]}), {recipe["warm_up_steps"]} warm-up steps, flat to {recipe["flat"]:.0%}, then linear to
{recipe["final_rate"]:.0%}; running average {recipe["average"]} exported. Seed {card["seed"]}, {card["precision"]},
{card["device"]}, {card["threads"]} threads: {card["cpu_seconds"] / 60:.0f} CPU-minutes,
{card["wall_seconds"] / 60:.0f} minutes by the clock on a machine shared with other work.
Libraries: {", ".join(f"{name} {version}" for name, version in card["versions"].items())}.

## Measured accuracy, percent

Fresh procedural images, {measured["count"]:,} of each sort:

| attribute | seen combinations | held-out combinations |
|---|---|---|
{rows}

Some scenes cannot be read by anybody: a small letter in noise, orange on red.

Ridge regression on scikit-learn's real 8 × 8 digits (1,000 train, 297 to choose the penalty, 500 test):

| features | accuracy |
|---|---|
{chr(10).join(probe_rows)}

While training (1,536 images a point; the last row with {measured["count"]:,}):

| images | kind, seen | kind, held-out | digits probe, class token |
|---|---|---|---|
{curve}

## Limits

- Real digits are a poor proof of a backbone: raw pixels and untrained networks come close. Do not read the probe as
  evidence of quality; 500 test images leave about one point of chance either way.
- It knows flat glyphs, not photographs. On natural images expect little more than a good set of random features.
- One seed. The exact bits repeat only on the same processor type and library versions.
- Half-precision storage moves features by about 0.03 %.

Weights sha256: `{card["weights_sha256"]}`. Remake them with `plastiscope pretrain micro-vit`.
"""
