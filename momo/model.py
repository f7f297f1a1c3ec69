"""MoMo: one transformer, all of whose layers process images, text and pairs (arXiv 2304.05523)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from momo.block import Block, through
from momo.embeddings import ImageEmbedding, TextEmbedding
from momo.heads import ContrastiveHead, MatchingHead, PixelDecoder, WordHead
from momo.model_config import ModelConfig
from momo.packing import Layout, Sequences

Recomputed = Literal["elementwise", "blocks"]
CPU_TOKENS = 1536
"""About as many tokens as inference on a CPU takes through the blocks at a time, in equal parts:
what one block makes of more falls out of the caches, and every larger tensor is fresh memory that
the system must clear; the products of a small last part are slow."""


def _blocks(config: ModelConfig, depth: int) -> nn.ModuleList:
    sizes = config.width, config.heads, config.mlp_ratio
    return nn.ModuleList(Block(*sizes, config.activation, config.norm_eps) for _ in range(depth))


class Layers(nn.Module):
    """Transformer blocks and the norm behind them."""

    def __init__(self, config: ModelConfig, depth: int) -> None:
        super().__init__()
        self.blocks = _blocks(config, depth)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)


class MoMo(nn.Module):
    """The shared encoder with its heads.

    Shapes: B batch, K kept patches, T text tokens, D width, E embedding width. Text masks are
    bool [B, T], True for tokens; every row needs at least one. `image_tower` and `text_tower` are
    None unless `config.tower_depth` is above 0. `extra_embeddings`: by name those of the config's
    `extra_modalities`, drawn last, so that all others are as without them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image_embedding = ImageEmbedding(config)
        self.text_embedding = TextEmbedding(config)
        self.blocks = _blocks(config, config.depth)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.image_tower = Layers(config, config.tower_depth) if config.tower_depth else None
        self.text_tower = Layers(config, config.tower_depth) if config.tower_depth else None
        self.pixel_decoder = PixelDecoder(config)
        self.word_head = WordHead(config)
        self.contrastive = ContrastiveHead(config)
        self.matching = MatchingHead(config)
        self.reset()
        self.extra_embeddings = nn.ModuleDict()
        for name in config.extra_modalities:
            from momo.modalities import extras

            embedding: Any = extras()[name].embedding(config)
            self._reset_layers(embedding)
            embedding.reset()
            self.extra_embeddings[name] = embedding

    def _reset_layers(self, part: nn.Module) -> None:
        for module in part.modules():
            if isinstance(module, nn.Linear):
                if self.config.linear_init == "xavier":
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)

    def reset(self) -> None:
        """Initialise what every model has: linear layers as `config.linear_init` says, words and
        their positions as `config.text_init` does, 0.02 normal for other embeddings."""
        self._reset_layers(self)
        nn.init.zeros_(self.word_head.bias)
        if self.config.text_init == "unit":  # the words are its output too: logits of size 1
            nn.init.constant_(self.word_head.norm.weight, self.config.width**-0.5)
        for part in (
            self.image_embedding,
            self.text_embedding,
            self.pixel_decoder,
            self.contrastive,
        ):
            part.reset()

    def enable_activation_checkpointing(self, what: Recomputed = "blocks") -> None:
        """From now on, in training, `blocks`: the encoder's blocks keep their inputs only and
        compute twice; `elementwise`: all blocks make their norms and GELU again."""
        if what == "elementwise":
            for block in self.modules():
                if isinstance(block, Block):
                    block.recompute_elementwise = True
            return
        for block in self.encoder_blocks():
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    def encoder_blocks(self) -> list[nn.Module]:
        """The shared blocks, and those of the towers where there are any."""
        towers = [t for t in (self.image_tower, self.text_tower) if t is not None]
        return [block for layers in (*towers, self) for block in layers.blocks]

    def _encode(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        layers: nn.Module | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Through a tower (`layers`), or through the shared blocks (None); `wanted` int64 [B, M]:
        only these tokens come out, and the last block makes no others."""
        layers = self if layers is None else layers
        attention_mask = _attention_mask(mask)
        if tokens.device.type != "cpu" or torch.is_grad_enabled() or _is_traced():
            return _through_layers(layers, tokens, attention_mask, wanted)
        rows, length = tokens.shape[:2]
        count = max(1, min(rows, round(rows * length / CPU_TOKENS)))
        parts = tokens.tensor_split(count)
        masks, wants = (
            [None] * count if t is None else t.tensor_split(count) for t in (attention_mask, wanted)
        )
        done = [_through_layers(layers, *p) for p in zip(parts, masks, wants, strict=True)]
        return torch.cat(done)

    def encode_image(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Normalised float `pixels` [B, 3, H, W], `keep` [B, K] or None → [B, 1 + K, D]."""
        return self.encode_embedded_image(self.image_embedding(pixels, keep))

    def encode_embedded_image(self, image: Tensor) -> Tensor:
        """As `encode_image`, from embeddings [B, 1 + K, D]."""
        mask = self._seen(image) if self.config.class_attention else None
        return self._encode(image, mask, self.image_tower)

    def _seen(self, image: Tensor) -> Tensor:
        """Which of a picture's tokens are attended to, bool [B, 1 + K]."""
        seen = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        if self.config.class_attention:
            seen[:, 0] = False
        return seen

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """`ids` [B, T] int64, `mask` [B, T] bool → [B, T, D]."""
        return self._encode(self.text_embedding(ids), mask, self.text_tower)

    def encode_tokens(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens [B, T, D] of any modality through the shared blocks → [B, T, D]. `mask` bool
        [B, T], True for tokens; None: all are."""
        return self._encode(tokens, mask, None)

    def encode_packed(
        self,
        tokens: Tensor,
        sequences: Sequences,
        layers: nn.Module | None = None,
        queries: Tensor | None = None,
        asked: Sequences | None = None,
    ) -> Tensor:
        """Tokens [S, D] of `sequences` through a tower (`layers`) or the shared blocks → [S, D].

        `queries` int64 [Q] of the sequences `asked`: only these tokens come out, [Q, D].
        """
        layers = self if layers is None else layers
        return _through_layers(layers, tokens, None, queries, sequences, asked)

    def encode_apart(self, image: Tensor, text: Tensor, texts: Layout) -> tuple[Tensor, Tensor]:
        """Embeddings [B, N, D] of pictures and [S, D] of `texts` → the same, encoded.

        The shared blocks take both through the same matrix products: those of short texts alone
        are slow, and each weight's gradient is added up once less.
        """
        if self.image_tower is not None:
            seen = self.encode_embedded_image(image)
            return seen, self.encode_packed(text, texts.sequences, self.text_tower)
        rows, length = image.shape[:2]
        both = Sequences.equal(rows, length, image.device).then(texts.sequences)
        tokens = torch.cat([image.flatten(0, 1), text])
        if self.config.class_attention:
            cls = torch.arange(rows, device=image.device) * length
            left = both.runs and ((rows, length - 1), *both.runs[1:])
            both = both.hiding(cls, len(tokens), left)
        tokens = self.encode_packed(tokens, both)
        seen, read = tokens.split([rows * length, text.shape[0]])
        return seen.view_as(image), read

    def encode_pair(
        self, pixels: Tensor, ids: Tensor, mask: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One sequence [CLS], patches, text → image tokens [B, 1 + K, D], text [B, T, D]."""
        return self.encode_embedded_pair(
            self.image_embedding(pixels, keep), self.text_embedding(ids), mask
        )

    def encode_embedded_pair(
        self, image: Tensor, text: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `encode_pair`, from embeddings [B, 1 + K, D] and [B, T, D]."""
        joint, length = self.encode_joint(image, text, mask), image.shape[1]
        return joint[:, :length], joint[:, length:]

    def encode_joint(
        self, image: Tensor, text: Tensor, mask: Tensor, wanted: Tensor | None = None
    ) -> Tensor:
        """Embeddings [B, 1 + K, D] and [B, T, D] → one sequence [B, 1 + K + T, D].

        `wanted` int64 [B, M]: only these tokens come out, [B, M, D].
        """
        seen = self._seen(image)
        if self.image_tower is not None:
            image = self.encode_embedded_image(image)
            text = self._encode(text, mask, self.text_tower)
        tokens, present = torch.cat([image, text], dim=1), torch.cat([seen, mask], dim=1)
        return self._encode(tokens, present, None, wanted)

    def project_image(self, image_tokens: Tensor) -> Tensor:
        """[B, 1 + K, D] → unit vectors [B, E], from the mean of the patch tokens."""
        pooled = image_tokens[:, 1:].mean(dim=1)
        return nn.functional.normalize(self.contrastive.image(pooled).float(), dim=-1)

    def project_text(self, text_tokens: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D], [B, T] → unit vectors [B, E], from the mean of the tokens."""
        pooled = mean_of_tokens(text_tokens, mask)
        return nn.functional.normalize(self.contrastive.text(pooled).float(), dim=-1)

    def embed_image(self, pixels: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] → unit vectors [B, E]."""
        return self.project_image(self.encode_image(pixels))

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, T] → unit vectors [B, E]."""
        return self.project_text(self.encode_text(ids, mask), mask)

    def embed_both(
        self, patches: Tensor, text: Tensor, texts: Layout, length: int
    ) -> tuple[Tensor, Tensor]:
        """As `embed_image` and `embed_text` at once, from the pictures' normalised `patches`
        [B, N, 3·p·p] and embeddings [S, D] of `texts`, none of which is longer than `length`."""
        image = self.image_embedding.of_patches(patches)
        seen, read = self.encode_apart(image, text, texts)
        return self.project_image(seen), self.project_text(*texts.padded(read, length))

    def word_logits(self, tokens: Tensor) -> Tensor:
        """Masked positions' tokens [M, D] → logits [M, V]."""
        return self.word_head(tokens, self.text_embedding.words.weight)


def _attention_mask(mask: Tensor | None) -> Tensor | None:
    """bool [B, T] → [B, 1, 1, T], or None where every token may be seen: attention is slower with
    a mask. Looked up on CPUs only: a GPU would have to be waited for, and what is traced holds for
    other masks too."""
    if mask is None:
        return None
    look = mask.device.type == "cpu" and not _is_traced()
    return None if look and bool(mask.all()) else mask[:, None, None, :]


def _is_traced() -> bool:
    """Whether a graph is made of this: by torch.compile, torch.export or torch.jit.trace."""
    jit: Any = torch.jit
    return torch.compiler.is_compiling() or jit.is_tracing()


def _through_layers(
    layers: nn.Module,
    tokens: Tensor,
    attention_mask: Tensor | None,
    wanted: Tensor | None,
    sequences: Sequences | None = None,
    asked: Sequences | None = None,
) -> Tensor:
    blocks: Any = layers.blocks
    tokens = through(blocks, tokens, attention_mask, wanted, sequences, asked)
    return layers.norm(tokens)  # type: ignore[operator]


def mean_of_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are not padding: [B, T, D], [B, T] → [B, D]."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)


def build_model(config: ModelConfig, seed: int = 0) -> MoMo:
    """A freshly initialised model from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MoMo(config)


def encoder_parameters(model: MoMo) -> int:
    """Parameters of the encoder with its embeddings, without the training heads."""
    parts = (
        *(model.image_embedding, model.text_embedding, model.blocks, model.norm),
        model.extra_embeddings,
        *(tower for tower in (model.image_tower, model.text_tower) if tower is not None),
    )
    return sum(p.numel() for part in parts for p in part.parameters())
