"""Tiny random models of every architecture that the inhibitor is promised to work on."""

import torch
from torch import nn


class PlainMLP(nn.Module):
    """Eight inputs, two hidden layers, three classes."""

    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Linear(8, 16), nn.GELU()
        self.second, self.act2, self.out = nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)

    def forward(self, x, labels=None):
        return self.out(self.act2(self.second(self.act(self.first(x)))))


def build(name: str, seed: int = 0):
    """``(model, batch, n_blocks, width)``: ``model(**batch)`` runs; ``width`` of the MLP blocks (of the first one)."""
    import transformers as t

    torch.manual_seed(seed)
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
    tokens = torch.randint(0, 50, (3, 10), generator=torch.Generator().manual_seed(seed))
    text = {"input_ids": tokens, "labels": tokens}
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    picture = {"pixel_values": pixels, "labels": torch.tensor([0, 1, 0])}
    if name == "gpt_neox":
        return t.GPTNeoXForCausalLM(t.GPTNeoXConfig(vocab_size=50, **small)), text, 4, 24
    if name == "bert":
        return t.BertForMaskedLM(t.BertConfig(vocab_size=50, **small)), text, 4, 24
    if name == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=50, n_embd=16, n_layer=4, n_head=2, n_inner=24)), text, 4, 24
    if name == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(vocab_size=50, num_key_value_heads=2, **small)), text, 4, 24
    if name == "vit":
        return t.ViTForImageClassification(t.ViTConfig(image_size=32, patch_size=8, **small)), picture, 4, 24
    if name == "swin":
        config = t.SwinConfig(
            image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4, mlp_ratio=3.0
        )
        return t.SwinForImageClassification(config), picture, 4, 24
    raise ValueError(name)


TRANSFORMERS = ("gpt_neox", "bert", "gpt2", "llama", "vit", "swin")
