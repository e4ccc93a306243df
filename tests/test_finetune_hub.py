"""A real BERT's files and a task of GLUE under their names: from a stand-in for the hub, then from the cache alone."""

import json
from hashlib import sha256

import numpy as np
import pytest
import test_hub
from finetune_data import texts
from hub_standin import GLUE_SPLITS, Hub, tiny_glue

from l2e_min.lab.finetuning.glue import REPOSITORY
from l2e_min.lab.mini_bert import SPECIAL, bert_config, train_wordpiece

BERT = "google-bert/bert-base-uncased"

CALL = """
def classifier(name, seed, pretrained):
    from l2e_min.lab.finetuning.classifier import build_classifier
    built, tokenizer = build_classifier(name, 2, pair=True, head="cls", seed=seed, pretrained=pretrained)
    return {"weights": digests(built.encoder), "ids": tokenizer("Abc abc", "ABC").input_ids,
            "types": tokenizer("Abc abc", "ABC").token_type_ids}

"""


def tiny_bert_base():
    """(files, digests of the encoder's weights): a small BERT written the way Google's is.

    The weights of pretraining, both heads among them, norms under TensorFlow's names (gamma, beta), a vocabulary in
    vocab.txt, and next to nothing about the tokenizer.
    """
    import torch
    from safetensors.torch import save
    from transformers import BertForPreTraining

    words = train_wordpiece(texts(), 600)
    torch.manual_seed(4)
    config = bert_config("bert-32x2", vocabulary=len(words), context=128)
    model = BertForPreTraining(config)
    digests, tensors = {}, {}
    for name, weight in model.state_dict().items():
        if name.startswith("bert."):
            weight.copy_(torch.randn(weight.shape) * 0.1 + ("LayerNorm.weight" in name))
            digests[name.removeprefix("bert.")] = sha256(weight.numpy().tobytes()).hexdigest()
        if name != "cls.predictions.decoder.weight" and name != "cls.predictions.decoder.bias":  # tied
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[name] = weight.clone()
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
            "vocab_size", "initializer_range", "pad_token_id", "type_vocab_size", "hidden_act",
            "layer_norm_eps")  # fmt: skip
    about = {key: config.to_dict()[key] for key in keys} | {
        "architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "transformers_version": "4.6.0.dev0", "gradient_checkpointing": False,
    }  # fmt: skip
    pieces = sorted(words.get_vocab(), key=words.get_vocab().get)
    assert pieces[:5] == list(SPECIAL)
    return {
        "config.json": json.dumps(about).encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
        "tokenizer.json": words.backend_tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps({"do_lower_case": True, "model_max_length": 128}).encode(),
        "vocab.txt": "\n".join(pieces).encode() + b"\n",
    }, digests, words  # fmt: skip


SLOW_FIXTURES = {"hub"}  # asked by a process with the Hugging Face libraries


@pytest.fixture(scope="module")
def hub():
    files, weights, words = tiny_bert_base()
    hub = Hub({BERT: {"main": files}}, {REPOSITORY: {"main": tiny_glue()}})
    hub.weights, hub.words = weights, words
    yield hub
    hub.stop()


def caller_of(hub, home, **environment) -> test_hub.Caller:
    """A process of its own, as in test_hub, that knows ``classifier``, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_hub, "CALLER", test_hub.CALLER.replace("\nout = os.fdopen", CALL + "\nout = os.fdopen"))
        return test_hub.Caller(hub, home, **environment)


def finetune(caller, out, *more):
    """(status, printed, said) of a small comparison on RTE."""
    words = ["finetune", "--model", f"hub:{BERT}", "--task", "rte", "--method", "plain", "memel", "--seeds", "1",
             "--rates", "0.001", "--epochs", "1", "--batch", "8", "--device", "cpu", "--quiet",
             "--out", str(out)]  # fmt: skip
    return caller.value("l2e", *words, *more)


def test_bert_on_rte_from_the_hub_then_from_the_cache_alone(hub, home, tmp_path):
    """Online, offline by choice, and with the hub gone: the same rows."""
    online = caller_of(hub, home)
    loaded = online.value("classifier", f"hub:{BERT}", 0, True)
    assert loaded["weights"] == hub.weights, "pooler and norms are those that are served"
    assert loaded["ids"] == hub.words("abc abc", "abc").input_ids and set(loaded["types"]) == {0, 1}
    control = online.value("classifier", f"hub:{BERT}", 0, False)["weights"]
    drawn = {name for name in control if name.endswith("weight") and "LayerNorm" not in name}
    assert not any(control[name] == hub.weights[name] for name in drawn) and "pooler.dense.weight" in drawn
    status, printed, error = finetune(online, tmp_path / "online")
    assert status == 0, error
    assert "rte: accuracy" in printed and printed.splitlines()[0].split() == ["points", "rte", "average"]
    lines = (tmp_path / "online" / "runs.jsonl").read_text().splitlines()
    header, rows = json.loads(lines[0])["header"], [json.loads(line) for line in lines[1:]]
    assert header["model"] == f"hub:{BERT}" and header["settings"]["head"] == "cls", "a real BERT answers from [CLS]"
    assert [row["method"] for row in rows] == ["plain", "memel"]
    for row in rows:
        assert row["rows"] == [36, 4, GLUE_SPLITS["validation"]] and np.isfinite(row["curve"]["loss"]).all()
        assert row["curve"]["step"][-1] == 5, "36 rows in batches of 8"
    assert set(online("reachable")["refused"]) <= {"datasets-server.127.0.0.1"}, "the hub's own; nobody else was asked"
    online.close()

    asked = len(hub.requests)
    offline = caller_of(hub, home, HF_HUB_OFFLINE="1")
    assert finetune(offline, tmp_path / "offline")[0] == 0
    offline.close()
    assert hub.requests[asked:] == []
    assert (tmp_path / "offline" / "runs.jsonl").read_text().splitlines() == lines

    hub.stop()
    try:
        gone = caller_of(hub, home)
        assert finetune(gone, tmp_path / "gone")[0] == 0
        assert (tmp_path / "gone" / "runs.jsonl").read_text().splitlines() == lines
        status, _, error = finetune(gone, tmp_path / "none", "--task", "mrpc")
        assert status == 2 and "load GLUE's MRPC" in error and error.count("\n") == 1
        gone.close()
    finally:
        hub.start()


def test_a_name_that_is_none_is_said(hub, home, tmp_path):
    caller = caller_of(hub, home)
    status, _, error = finetune(caller, tmp_path / "out", "--model", "hub:google-bert/none")
    assert status == 2 and "cannot load the model hub:google-bert/none: no such name" in error
    assert error.count("\n") == 1
    caller.close()
