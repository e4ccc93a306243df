"""Models: the real Pythias' sizes, seeded weights, loading from folders, the shipped model."""

import json

import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import PYTHIA, config_for, load_model, load_shipped, parameter_counts, untrained
from l2e_min.lab.paths import DATA
from l2e_min.lab.tokenizer import train_tokenizer

PUBLISHED = {  # parameters outside the embeddings, as B23 and the models' cards state them
    "pythia-70m": 18_915_328,
    "pythia-160m": 85_056_000,
    "pythia-410m": 302_311_424,
    "pythia-1b": 805_736_448,
    "pythia-1.4b": 1_208_602_624,
    "pythia-2.8b": 2_517_652_480,
    "pythia-6.9b": 6_444_163_072,
}


@pytest.mark.parametrize("name", PYTHIA)
def test_real_sizes_have_the_published_number_of_parameters(name):
    from transformers import GPTNeoXForCausalLM

    with torch.device("meta"):
        model = GPTNeoXForCausalLM(config_for(name))
    assert parameter_counts(model)[1] == PUBLISHED[name]
    assert model.config.max_position_embeddings == 2048


@pytest.mark.parametrize(
    ("size", "heads", "total"), [("16x1", 1, None), ("32x2", 1, 91_008), ("64x3", 2, 281_152), ("128x4", 4, 1_055_488)]
)
def test_mini_sizes(size, heads, total):
    model = untrained(size)
    config = model.config
    assert config.num_attention_heads == heads and config.intermediate_size == 4 * config.hidden_size
    assert config.use_parallel_residual and not config.tie_word_embeddings and config.max_position_embeddings == 128
    assert config.rope_parameters["partial_rotary_factor"] == 0.25
    assert total is None or parameter_counts(model)[0] == total
    assert model(input_ids=torch.randint(0, 1024, (2, 9))).logits.shape == (2, 9, 1024)


@pytest.mark.parametrize("size", ["", "128", "x4", "33x2", "0x4", "32x0", "pythia-99b", "128x4x2", "-32x2"])
def test_other_sizes_are_refused(size):
    with pytest.raises(UserError, match="no such size"):
        config_for(size)


def test_untrained_weights_come_from_the_seed_alone():
    def weights(**options):
        return torch.cat([p.flatten() for p in untrained("32x2", **options).parameters()])

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = weights(seed=3)
    assert torch.equal(state, torch.get_rng_state()), "the global random state is left alone"
    torch.manual_seed(2)
    assert torch.equal(first, weights(seed=3)) and not torch.equal(first, weights(seed=4))


def test_initial_weights_have_pythias_spread():
    model = untrained("128x4")
    block = model.gpt_neox.layers[1]
    small, wang = (2 / (5 * 128)) ** 0.5, 2 / (4 * 128**0.5)
    for weight in (block.attention.query_key_value.weight, block.mlp.dense_h_to_4h.weight, model.lm_head.weight):
        assert weight.std().item() == pytest.approx(small, rel=0.03)
    for weight in (block.attention.dense.weight, block.mlp.dense_4h_to_h.weight):
        assert weight.std().item() == pytest.approx(wang, rel=0.03)
    assert block.mlp.dense_h_to_4h.bias.abs().max() == 0 and (block.input_layernorm.weight == 1).all()


def test_a_twin_of_a_model_has_its_shape_and_other_weights():
    model = untrained("32x2", seed=0)
    twin = untrained(model.config, seed=1)
    assert parameter_counts(twin) == parameter_counts(model)
    assert not torch.equal(twin.lm_head.weight, model.lm_head.weight)


def test_a_saved_model_loads_as_it_was(tmp_path):
    model = untrained("32x2", vocabulary=300)
    model.save_pretrained(tmp_path)
    train_tokenizer(["one two three"] * 9, 300).save_pretrained(tmp_path)
    loaded, tokenizer = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert not loaded.training and len(tokenizer) <= 300 and next(loaded.parameters()).dtype == torch.float32


def test_pickled_weights_are_not_loaded(tmp_path):
    model = untrained("32x2", vocabulary=300)
    model.save_pretrained(tmp_path)
    train_tokenizer(["one two three"] * 9, 300).save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load the model"):
        load_model(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no model in .*expected a folder with config\.json"):
        load_model(tmp_path)
    with pytest.raises(UserError, match="no mini Pythia of size '1x1' ships; shipped:"):
        load_shipped("1x1")


SHIPPED = DATA / "models" / "mini-pythia-128x4"


def test_the_shipped_model_is_small_and_says_what_it_is():
    files = {f.name: f.stat().st_size for f in SHIPPED.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "training_log.csv"} <= set(files)
    assert sum(files.values()) < 3_000_000
    facts = json.loads((SHIPPED / "training.json").read_text())
    card = (SHIPPED / "README.md").read_text()
    assert facts["text"]["fingerprint"] in card and f"{facts['validation_loss']:.3f}" in card
    assert "l2e pretrain --size 128x4" in card
    log = (SHIPPED / "training_log.csv").read_text().splitlines()
    looks = [float(line.split(",")[5]) for line in log[1:] if line.split(",")[5]]
    assert looks[-1] < looks[0] - 0.5 and min(looks[-3:]) == pytest.approx(min(looks), abs=0.02), "the loss falls"


def test_the_shipped_model_predicts_far_better_than_its_untrained_twin():
    model, tokenizer = load_shipped("128x4")
    twin = untrained(model.config)
    text = "class Thing:\n    def __init__(self, name):\n        self.name = name\n\n    def __repr__(self):\n"
    ids = torch.tensor([tokenizer(text).input_ids])
    with torch.no_grad():
        trained, random = (m(input_ids=ids, labels=ids).loss.item() for m in (model, twin))
    assert trained < 0.6 * random and random > 6
    assert next(model.parameters()).dtype == torch.float32 and not model.training
