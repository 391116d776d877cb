"""Stage two of the embedded backbones: a 7 MB CLIP that reads captions of the micro world.

A genuine `open_clip` model: the image tower starts from the micro ViT (the hand-over is exact), the text tower from
nothing. Trained contrastively on procedural pictures and their captions, digits included, with a small attribute loss
that keeps the image tower's sight sharp.

    Z = s X Tᵀ,   L = ½ [CE(Z, Y) + CE(Zᵀ, Y)] + w · L_attributes,   X, T unit rows, s = exp(logit scale) ≤ 100

Y puts equal weight on all equal captions of a batch (a plain caption fits several pictures).

Shapes: B pairs, 3 × 32 × 32 images, 20 text tokens, joint width 128.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.assets import assets_folder
from cl_core.pretraining.micro_vit import MEAN, STD, normalise
from cl_core.pretraining.trainer import Course, follow, write_card
from cl_core.synthetic_world import (
    ATTRIBUTE_SIZES,
    COLOUR_NAMES,
    COUNTS,
    DIGIT_KINDS,
    KINDS,
    LETTER_KINDS,
    SHAPE_KINDS,
    TEXTURES,
    Scenes,
    captions,
    draw,
    known_words,
    noun,
    sample_scenes,
)
from cl_core.synthetic_world.captions import article

STANDARD_MERGES = (
    1000  # the commonest merges of CLIP's own list come along, so that foreign words break into few pieces
)
TOKENIZER_FILE = "micro_bpe.txt.gz"
CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"  # names open_clip looks for
LARGEST_SCALE = 100.0
TEMPLATES = ("a photo of {}", "{}", "a picture of {}", "a handwritten photo of {}", "a blurry photo of {}")


@dataclass(frozen=True)
class MicroClipSettings:
    """The recipe. Everything that decides the weights is here, with the weights it starts from."""

    images: int = 450_000
    batch: int = 256
    seed: int = 0
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warm_up_steps: int = 200
    flat: float = 0.6
    final_rate: float = 0.02
    average: float = 0.998
    attribute_weight: float = 0.3
    clip: float = 1.0
    joint_width: int = 128
    text_width: int = 128
    text_heads: int = 4
    text_depth: int = 3
    context_length: int = 20
    start: str = "micro-vit"  # folder of assets whose timm trunk the image tower starts from

    def __post_init__(self) -> None:
        if self.images < self.batch:
            raise ValueError(f"images must be at least one batch of {self.batch}, got {self.images}")

    @property
    def steps(self) -> int:
        return self.images // self.batch

    def architecture(self, trunk: dict[str, Any]) -> dict[str, Any]:
        """open_clip's `model_cfg` for an image tower that can hold the timm `trunk`."""
        return {
            "embed_dim": self.joint_width,
            "vision_cfg": {
                "image_size": trunk["img_size"],
                "patch_size": trunk["patch_size"],
                "layers": trunk["depth"],
                "width": trunk["embed_dim"],
                "head_width": trunk["embed_dim"] // trunk["num_heads"],
                "no_ln_pre": True,
                "norm_kwargs": {"eps": 1e-6},
            },
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": 2 * 256 + len(cut_merges()) + 2,
                "width": self.text_width,
                "heads": self.text_heads,
                "layers": self.text_depth,
            },
        }


@functools.cache
def cut_merges() -> tuple[str, ...]:
    """Lines of CLIP's merge list that the micro world's words use, and its first thousand, in its own order.

    What is kept stands in the standard order, so these words break into exactly the pieces of the full tokenizer.
    """
    with gzip.open(default_bpe()) as file:
        lines = file.read().decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    rank = {tuple(line.split()): place for place, line in enumerate(lines)}
    kept = set(range(STANDARD_MERGES))
    for word in known_words():
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            place, at = min((rank.get(pair, len(rank)), at) for at, pair in enumerate(itertools.pairwise(pieces)))
            if place == len(rank):
                break
            kept.add(place)
            pieces[at : at + 2] = ["".join(pieces[at : at + 2])]
    return tuple(lines[place] for place in sorted(kept))


def write_tokenizer(folder: Path) -> Path:
    """The cut merge list as open_clip reads it (first line ignored, no newline at the end); the same bytes every
    time."""
    path = folder / TOKENIZER_FILE
    text = "\n".join(["merges of the CLIP tokenizer, cut to the words of a micro world", *cut_merges()])
    path.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))
    return path


def image_tower_weights(trunk: dict[str, Tensor]) -> dict[str, Tensor]:
    """A timm trunk's weights under the names of open_clip's image tower (no `ln_pre`, eps 1e-6): the same function.

    open_clip's patch embedding has no bias; it is added to the position embedding of the patch tokens.
    """
    names = {
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv.weight": "attn.in_proj_weight",
        "attn.qkv.bias": "attn.in_proj_bias",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    position = trunk["pos_embed"][0].clone()
    position[1:] += trunk["patch_embed.proj.bias"]
    found = {
        "conv1.weight": trunk["patch_embed.proj.weight"],
        "class_embedding": trunk["cls_token"][0, 0],
        "positional_embedding": position,
        "ln_post.weight": trunk["norm.weight"],
        "ln_post.bias": trunk["norm.bias"],
    }
    for name, value in trunk.items():
        if name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            for old, new in names.items():
                if rest.startswith(old):
                    found[f"transformer.resblocks.{block}.{rest.replace(old, new, 1)}"] = value
                    break
            else:
                raise ValueError(f"the trunk has a weight that open_clip's image tower has no place for: {name}")
    return found


class ContrastiveReader(nn.Module):
    """The CLIP, and a linear head that reads attributes from the image tower's class token (training only)."""

    def __init__(self, settings: MicroClipSettings) -> None:
        super().__init__()
        card = json.loads((assets_folder() / settings.start / "config.json").read_text("utf-8"))
        self.clip = open_clip.model.CLIP(**settings.architecture(card["architecture"]))
        trunk = load_file(assets_folder() / settings.start / card["weights_file"])
        tower = image_tower_weights({name: value.float() for name, value in trunk.items()})
        missing, unexpected = self.clip.visual.load_state_dict(tower, strict=False)
        if unexpected or missing != ["proj"]:
            raise ValueError(f"{settings.start} does not fit the image tower: missing {missing}, too much {unexpected}")
        self.head = nn.Linear(card["architecture"]["embed_dim"], sum(ATTRIBUTE_SIZES.values()))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Normalised image and text embeddings [B, 128] and attribute logits."""
        seen: list[Tensor] = []
        hook = self.clip.visual.ln_post.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
        try:
            image = self.clip.encode_image(images, normalize=True)
        finally:
            hook.remove()
        text = self.clip.encode_text(tokens, normalize=True)
        logits = self.head(seen[0]).float().split(list(ATTRIBUTE_SIZES.values()), dim=1)
        return image.float(), text.float(), dict(zip(ATTRIBUTE_SIZES, logits, strict=True))


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, texts: list[str]) -> Tensor:
    """½ [CE(Z, Y) + CE(Zᵀ, Y)] with Z = scale · image textᵀ; equal captions share the target equally."""
    ids = {caption: number for number, caption in enumerate(dict.fromkeys(texts))}
    group = torch.tensor([ids[caption] for caption in texts], device=image.device)
    same = (group[:, None] == group).float()
    target = same / same.sum(dim=1, keepdim=True)
    logits = scale * image @ text.mT
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target))


class ContrastiveCourse(Course):
    """Learning to match pictures and captions."""

    model: ContrastiveReader
    average: ContrastiveReader

    def __init__(self, settings: MicroClipSettings, device: str, folder: Path) -> None:
        super().__init__(settings, device)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer = SimpleTokenizer(str(write_tokenizer(folder)), context_length=settings.context_length)

    def build(self) -> ContrastiveReader:
        return ContrastiveReader(self.settings)

    def batch_loss(self) -> Tensor:
        scenes = sample_scenes(self.settings.batch, self.generator)
        texts = captions(scenes, self.generator)
        images = normalise(draw(scenes, self.generator))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            image, text, attributes = self.model(images, self.tokenizer(texts).to(self.device))
        scale = self.model.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
        loss = contrastive_loss(image, text, scale, texts)
        if self.settings.attribute_weight:
            targets = scenes.as_dict()
            reading = sum(F.cross_entropy(attributes[name], targets[name]) for name in ATTRIBUTE_SIZES)
            loss = loss + self.settings.attribute_weight * reading
        return loss

    def evaluate(self, count: int) -> dict[str, Any]:
        return evaluate(self.average.clip, self.tokenizer, count, str(self.device))

    def summary(self, measured: dict[str, Any]) -> str:
        seen, held_out = measured["zero_shot"]["seen"], measured["zero_shot"]["held_out"]
        rest = ", ".join(f"{n} {seen[n]}" for n in ("shape", "letter", "digit", "colour", "texture", "count"))
        return (
            f"zero-shot kind {seen['kind']} seen, {held_out['kind']} held-out; {rest}; real digits "
            f"{measured['real_digits']['one_template']}; R@1 {measured['retrieval']['image_to_text_1']} / "
            f"{measured['retrieval']['text_to_image_1']}; gap {measured['modality_gap']}"
        )

    def presentable(self, measured: dict[str, Any]) -> bool:
        return measured["zero_shot"]["seen"]["kind"] >= 40.0

    def export(self, folder: Path, measured: dict[str, Any], *, complete: bool) -> dict[str, Any]:
        return export(self, folder, measured, complete=complete)


def pretrain(
    settings: MicroClipSettings, folder: Path, *, device: str = "cpu", **options: Any
) -> dict[str, Any] | None:
    """Train, measure, export; `options` are those of `trainer.follow`. "cuda" does not repeat exactly, "cpu" does."""
    return follow(ContrastiveCourse(settings, device, folder), folder, **options)


# ---------------------------------------------------------------- measuring


def phrase(kind: int, adjective: str = "") -> str:
    """A kind as captions name it: "a star", "a red star", "the letter k", "the digit three"."""
    words = f"{adjective} {noun(kind)}".strip()
    return f"the {words}" if kind not in SHAPE_KINDS and not adjective else f"{article(words)} {words}"


def questions() -> dict[str, tuple[list[list[str]], range | None]]:
    """Zero-shot questions: attribute → (phrases of every class, kinds the question is asked about)."""
    shapes = list(SHAPE_KINDS)
    many = [[f"{count} {noun(k, many=True)}" if n else phrase(k) for k in shapes] for n, count in enumerate(COUNTS)]
    return {
        "kind": ([[phrase(k)] for k in range(len(KINDS))], None),
        "shape": ([[phrase(k)] for k in SHAPE_KINDS], SHAPE_KINDS),
        "letter": ([[phrase(k)] for k in LETTER_KINDS], LETTER_KINDS),
        "digit": ([[phrase(k)] for k in DIGIT_KINDS], DIGIT_KINDS),
        "colour": ([[phrase(k, colour) for k in shapes] for colour in COLOUR_NAMES], SHAPE_KINDS),
        "texture": ([[phrase(k, texture) for k in shapes] for texture in TEXTURES], SHAPE_KINDS),
        "count": (many, SHAPE_KINDS),
        "coloured_shape": ([[phrase(k, colour)] for k in shapes for colour in COLOUR_NAMES], SHAPE_KINDS),
    }


@torch.inference_mode()
def class_embeddings(
    clip: open_clip.model.CLIP, tokenizer: Any, phrases: list[list[str]], templates: tuple[str, ...]
) -> Tensor:
    """Per class the normalised mean of the normalised embeddings of all its phrases in all templates: [C, 128]."""
    device = clip.logit_scale.device
    rows = []
    for words in phrases:
        texts = [template.format(word) for template in templates for word in words]
        rows.append(clip.encode_text(tokenizer(texts).to(device), normalize=True).float().mean(dim=0))
    return F.normalize(torch.stack(rows), dim=1)


@torch.inference_mode()
def evaluate(clip: open_clip.model.CLIP, tokenizer: Any, count: int, device: str) -> dict[str, Any]:
    """Zero-shot accuracy (percent) on fresh pictures of seen and held-out combinations and on real digits; retrieval
    and the modality gap on held-out pairs.

    Args:
        count: pictures of each sort; always the same ones, apart from training's.
    """
    found: dict[str, Any] = {"count": count, "zero_shot": {}}
    asked = questions()
    classes = {name: class_embeddings(clip, tokenizer, phrases, TEMPLATES[:1]) for name, (phrases, _) in asked.items()}
    for sort, held_out, seed in (("seen", False, 20_001), ("held_out", True, 20_002)):
        generator = torch.Generator(device=device).manual_seed(seed)
        scenes = sample_scenes(count, generator, held_out=held_out)
        embeddings = _embed(clip, scenes, generator)
        found["zero_shot"][sort] = {}
        for name, (_, about) in asked.items():
            first = 0 if about is None else about.start
            rows = torch.ones_like(scenes.kind, dtype=torch.bool)
            if about is not None:
                rows = (scenes.kind >= about.start) & (scenes.kind < about.stop)
            if name == "coloured_shape":
                target = scenes.kind * len(COLOUR_NAMES) + scenes.colour
            else:
                target = getattr(scenes, name) if name in ATTRIBUTE_SIZES and name != "kind" else scenes.kind - first
            guess = (embeddings[rows] @ classes[name].mT).argmax(dim=1)
            found["zero_shot"][sort][name] = round(100 * float((guess == target[rows]).double().mean()), 2)
    found["real_digits"] = _real_digits(clip, tokenizer, device)
    found |= _pairs(clip, tokenizer, device)
    return found


def _embed(clip: open_clip.model.CLIP, scenes: Scenes, generator: torch.Generator) -> Tensor:
    parts = torch.arange(len(scenes), device=generator.device).split(256)
    drawn = (normalise(draw(scenes.select(part), generator)) for part in parts)
    return torch.cat([clip.encode_image(images, normalize=True).float() for images in drawn])


def _real_digits(clip: open_clip.model.CLIP, tokenizer: Any, device: str) -> dict[str, Any]:
    """Zero-shot accuracy on all 1,797 of scikit-learn's handwritten digits, none of which was trained on."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = torch.as_tensor(data.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(pixels, size=32, mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
    labels = torch.as_tensor(data.target)
    embeddings = torch.cat(
        [clip.encode_image(normalise(p.to(device)), normalize=True).float() for p in images.split(256)]
    )
    words = [[phrase(kind)] for kind in DIGIT_KINDS]
    found: dict[str, Any] = {}
    for name, templates in (("one_template", TEMPLATES[:1]), ("five_templates", TEMPLATES)):
        guess = (embeddings @ class_embeddings(clip, tokenizer, words, templates).mT).argmax(dim=1).cpu()
        found[name] = round(100 * float((guess == labels).double().mean()), 2)
        if name == "one_template":
            found["by_digit"] = [round(100 * float((guess[labels == d] == d).double().mean()), 1) for d in range(10)]
    return found


def _pairs(clip: open_clip.model.CLIP, tokenizer: Any, device: str, count: int = 1000) -> dict[str, Any]:
    """Retrieval among `count` held-out pairs with different captions, and ‖mean image − mean caption embedding‖₂."""
    generator = torch.Generator(device=device).manual_seed(20_003)
    scenes = sample_scenes(4 * count, generator, held_out=True)
    texts = captions(scenes, generator)
    first = {caption: row for row, caption in reversed(list(enumerate(texts)))}
    rows = sorted(first.values())[:count]
    scenes = scenes.select(torch.tensor(rows, device=device))
    image = _embed(clip, scenes, generator)
    text = clip.encode_text(tokenizer([texts[row] for row in rows]).to(device), normalize=True).float()
    similarity = image @ text.mT
    own = similarity.diagonal()
    found = {}
    for name, better in (
        ("image_to_text", (similarity > own[:, None]).sum(dim=1)),
        ("text_to_image", (similarity > own).sum(dim=0)),
    ):
        for k in (1, 5):
            found[f"{name}_{k}"] = round(100 * float((better < k).double().mean()), 2)
    return {
        "retrieval": {"pairs": len(rows), **found},
        "modality_gap": round(float((image.mean(dim=0) - text.mean(dim=0)).norm()), 4),
    }


# ---------------------------------------------------------------- export


def export(course: ContrastiveCourse, folder: Path, measured: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    """Write weights (half precision), open_clip's configuration, the tokenizer's merges and the card."""
    folder.mkdir(parents=True, exist_ok=True)
    clip = course.average.clip
    weights = {name: value.half().cpu().contiguous() for name, value in clip.state_dict().items()}
    temporary = folder / "model.partial"
    save_file(weights, temporary, metadata={"format": "pt"})
    trunk = json.loads((assets_folder() / course.settings.start / "config.json").read_text("utf-8"))
    card = {
        "name": "micro-clip",
        "complete": complete,
        "model_cfg": course.settings.architecture(trunk["architecture"]),
        "preprocess_cfg": {"mean": [MEAN] * 3, "std": [STD] * 3},
        "parameters": sum(value.numel() for value in weights.values()),
        "tokenizer_file": TOKENIZER_FILE,
        "weights_file": WEIGHTS_FILE,
        "weights_sha256": hashlib.sha256(temporary.read_bytes()).hexdigest(),
        "weights_bytes": temporary.stat().st_size,
        "weights_precision": "float16",
        "image_tower_from": {"name": course.settings.start, "weights_sha256": trunk["weights_sha256"]},
        "logit_scale": round(float(clip.logit_scale.detach().exp()), 3),
        "accuracy_percent": measured,
        **course.made_how(("torch", "timm", "open_clip_torch", "scikit-learn", "matplotlib")),
    }
    os.replace(temporary, folder / WEIGHTS_FILE)
    write_tokenizer(folder)
    write_card(folder, card, model_card(card), CONFIG_FILE)
    return card


def model_card(card: dict[str, Any]) -> str:
    """The README beside the weights, from the same numbers as the configuration."""
    measured, recipe = card["accuracy_percent"], card["recipe"]
    zero_shot, digits, retrieval = measured["zero_shot"], measured["real_digits"], measured["retrieval"]
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {len(phrases)} | {zero_shot['seen'][name]} | {zero_shot['held_out'][name]} |"
        for name, (phrases, _) in questions().items()
    )
    curve = "\n".join(
        f"| {entry['images']:,} | {entry['zero_shot']['seen']['kind']} | {entry['zero_shot']['held_out']['kind']} | "
        f"{entry['real_digits']['one_template']} | {entry['retrieval']['image_to_text_1']} | {entry['modality_gap']} |"
        for entry in [*card["history"], measured]
    )
    interim = "" if card["complete"] else "\n**Interim weights: the training that makes them had not ended.**\n"
    return f"""# micro-clip
{interim}
A small CLIP for continual-learning experiments that must start without a network. It is a plain open_clip model:
{card["parameters"]:,} parameters, {card["weights_bytes"] / 1e6:.1f} MB in half precision.

```python
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:assets/micro-clip")
tokenizer = open_clip.get_tokenizer("local-dir:assets/micro-clip", bpe_path="assets/micro-clip/{TOKENIZER_FILE}")
```

## Data and recipe

The image tower starts from [micro-vit](../micro-vit/README.md)'s trunk (weights
`{card["image_tower_from"]["weights_sha256"][:12]}…`), the text tower from nothing. Procedural pictures and captions of
12 shapes, 26 letters and 10 digits, made while training and never stored: **no photograph, no scanned digit, no text
written by a person.** One combination in eleven of kind, colour and texture was kept out (the "held-out" column).

Symmetric contrastive loss (equal captions share the target) + {recipe["attribute_weight"]} × the cross-entropies of
eight attributes read from the class token. {card["images_seen"]:,} pairs, batch {recipe["batch"]}, AdamW
{recipe["learning_rate"]} (betas {recipe["betas"]}, decay {recipe["weight_decay"]}), {recipe["warm_up_steps"]} warm-up
steps, flat to {recipe["flat"]:.0%}, then linear to {recipe["final_rate"]:.0%}; running average {recipe["average"]}
exported. Seed {card["seed"]}, {card["precision"]}, {card["device"]}, {card["threads"]} thread(s):
{card["cpu_seconds"] / 60:.0f} CPU-minutes, {card["wall_seconds"] / 60:.0f} minutes by the clock on a machine shared
with other work. Logit scale at the end: {card["logit_scale"]}.
Libraries: {", ".join(f"{name} {version}" for name, version in card["versions"].items())}.

The tokenizer is open_clip's own with a cut list of merges ({card["model_cfg"]["text_cfg"]["vocab_size"]:,} tokens): the
words of the captions break into the same pieces as with the full list; any other text still encodes, into tokens that
were never trained.

## Measured zero-shot accuracy, percent

Fresh procedural pictures, {measured["count"]:,} of each sort, template "a photo of …"; colour, texture and count are
asked about shapes, each class being the mean over the twelve shapes:

| question | classes | seen combinations | held-out combinations |
|---|---|---|---|
{rows}

All 1,797 **real** handwritten digits of scikit-learn, none of them trained on: {digits["one_template"]} with "a photo
of the digit three", {digits["five_templates"]} with five templates. By digit, 0 to 9:
{", ".join(map(str, digits["by_digit"]))}.
The look of the procedural handwriting was once adjusted by eye to real digits; no label of theirs was used.

Retrieval among {retrieval["pairs"]:,} held-out pairs with different captions: image to text R@1
{retrieval["image_to_text_1"]}, R@5 {retrieval["image_to_text_5"]}; text to image R@1 {retrieval["text_to_image_1"]},
R@5 {retrieval["text_to_image_5"]}. Captions leave most things out, so many of them fit several pictures: 100 is out of
reach. Modality gap (distance of the mean image and mean caption embedding): {measured["modality_gap"]}.

While training:

| pairs | kind, seen | kind, held-out | real digits | image to text R@1 | modality gap |
|---|---|---|---|---|---|
{curve}

## Limits

- It knows flat glyphs and a hundred words. It is a model animal for forgetting, not a model of language.
- One seed. The exact bits repeat only on the same processor type and library versions.

Weights sha256: `{card["weights_sha256"]}`. Remake them with `plastiscope pretrain micro-clip`.
"""
