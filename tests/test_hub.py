"""The way to the hub, walked for real: transformers and datasets against a stand-in on this machine.

The libraries read HF_ENDPOINT and HF_HOME when they are imported, so the code under test runs in a process of its own
that takes calls on its standard input. That process can connect to nothing but 127.0.0.1 and keeps what it refused.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub
import numpy as np
import pytest
from hub_standin import Hub
from tokenizers import Tokenizer

from l2e_min.lab import hub as ways

PYTHIA_70M = "EleutherAI/pythia-70m"
PILE = "monology/pile-uncopyrighted"

CALLER = r"""
import hashlib, json, os, socket, sys, time

refused = []  # hosts that something wanted to reach, other than this machine
connect, lookup = socket.socket.connect, socket.getaddrinfo

def only_here(host):
    if host not in ("127.0.0.1", "localhost", "::1"):
        refused.append(str(host))
        raise OSError(101, f"{host} is out of bounds for a test")

def guarded_connect(self, address):
    if isinstance(address, tuple):
        only_here(address[0])
    return connect(self, address)

def guarded_lookup(host, *rest, **options):
    only_here(host)
    return lookup(host, *rest, **options)

socket.socket.connect, socket.getaddrinfo = guarded_connect, guarded_lookup

def digests(model):
    return {name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for name, p in model.named_parameters()}

def model(name):
    from l2e_min.lab.mini_pythia import load_model
    loaded, tokenizer = load_model(name)
    words = "def one(two):\n    return three"
    return {"weights": digests(loaded), "ids": tokenizer(words).input_ids, "pad": tokenizer.pad_token,
            "rotary": loaded.config.rope_parameters["partial_rotary_factor"], "training": loaded.training}

def tokenizer(name):
    from l2e_min.lab.tokenizer import load_tokenizer
    return load_tokenizer(name)("def one(two):\n    return three").input_ids

def corpus(name):
    from l2e_min.lab.text.corpus import load_corpus
    read = load_corpus(name)
    return {side: [[d.text, d.source] for d in getattr(read, side)] for side in ("train", "validation")}

def reachable(timeout=3.0):
    from l2e_min.lab.hub import reachable
    return reachable(timeout)

def paper():
    from l2e_min.lab.settings import PROFILES
    PROFILES["paper"].require_hub()

def l2e(*words):
    import contextlib, io
    from l2e_min.lab import cli
    from l2e_min.lab.study import run
    run.held_out_rows = lambda: [f"the loss of row {i} is measured on this text" for i in range(20)]
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        status = cli.main(list(words))
    return status, printed.getvalue(), said.getvalue()

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever the libraries print goes to standard error
for line in sys.stdin:
    name, arguments = json.loads(line)
    began, answer = time.monotonic(), {}
    try:
        answer["value"] = globals()[name](*arguments)
    except Exception as error:
        answer["error"] = [type(error).__name__, str(error)]
    answer |= {"seconds": time.monotonic() - began, "refused": refused}
    print(json.dumps(answer), file=out, flush=True)
"""


class Caller:
    """A process that calls this project's functions with its own HF_HOME: ``caller("model", "hub:NAME")``."""

    def __init__(self, hub: Hub, home, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "L2E_"))}
        kept = {k: v for k, v in kept.items() if not k.lower().endswith("_proxy")}
        own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
        command = [sys.executable, "-W", "ignore", "-c", CALLER]
        self.process = subprocess.Popen(
            command, env=kept | own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, name: str, *arguments) -> dict:
        print(json.dumps([name, arguments]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def value(self, name: str, *arguments):
        answer = self(name, *arguments)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def user_error(self, name: str, *arguments, within: float = 60.0) -> str:
        """The message of the one-line UserError that this call must end in, within so many seconds."""
        answer = self(name, *arguments)
        kind, message = answer.get("error", ["no error at all", str(answer.get("value"))[:200]])
        assert kind == "UserError" and "\n" not in message and len(message) < 500, (kind, message)
        assert answer["seconds"] < within, (answer["seconds"], message)
        return message

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


def tiny_pythia(seed: int, mask: int = 128) -> tuple[dict[str, bytes], dict[str, str]]:
    """(files, digests of the weights as float32): a small GPT-NeoX written the way EleutherAI's checkpoints are.

    float16, a config of transformers' version 4 (rotary_pct, torch_dtype), buffers that newer versions do not know, a
    tokenizer without a padding token. ``mask``: the longest text of those buffers; 3,500 makes the file 25 MB.
    """
    import torch
    from safetensors.torch import save

    from l2e_min.lab.mini_pythia import config_for, untrained
    from l2e_min.lab.tokenizer import train_tokenizer

    tensors = {k: v.half() for k, v in untrained("32x2", seed=seed, vocabulary=300).state_dict().items()}
    weights = {k: sha256(v.float().numpy().tobytes()).hexdigest() for k, v in tensors.items()}
    for layer in range(2):
        place = f"gpt_neox.layers.{layer}.attention"
        tensors[f"{place}.bias"] = torch.ones(1, 1, mask, mask, dtype=torch.bool).tril()
        tensors[f"{place}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{place}.rotary_emb.inv_freq"] = torch.ones(4).half()
    config = config_for("32x2", vocabulary=300).to_dict()
    kept = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "hidden_act")
    config = {key: config[key] for key in (*kept, "max_position_embeddings", "tie_word_embeddings")} | {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "torch_dtype": "float16",
        "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": True, "transformers_version": "4.24.0",
        "bos_token_id": 0, "eos_token_id": 0, "layer_norm_eps": 1e-5, "initializer_range": 0.02, "use_cache": True,
    }  # fmt: skip
    end = "<|endoftext|>"
    about = {"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": False}
    about |= {"bos_token": end, "eos_token": end, "unk_token": end}
    words = train_tokenizer([("def one(two):\n    return three\n", "one two three four five six\n")[seed % 2]] * 9, 300)
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
        "tokenizer.json": words.backend_tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(about).encode(),
        "special_tokens_map.json": json.dumps({k: end for k in ("bos_token", "eos_token", "unk_token")}).encode(),
    }, weights


def lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def zstd(data: bytes) -> bytes:
    import pyarrow

    return pyarrow.compress(data, codec="zstd", asbytes=True)


WORDS = np.array([f"w{i}" for i in range(500)])
ROWS = [{"text": " ".join(np.random.default_rng(i).choice(WORDS, 80)), "meta": {"set": "x"}} for i in range(60)]


SLOW_FIXTURES = {"caller"}  # a process with the Hugging Face libraries


@pytest.fixture(scope="module")
def hub():
    main, weights = tiny_pythia(0)
    step, step_weights = tiny_pythia(1)
    other, other_weights = tiny_pythia(2, mask=3500)  # more than two of the 10 MB pieces that the client keeps
    pickled = {k: v for k, v in main.items() if k != "model.safetensors"} | {"pytorch_model.bin": b"never read"}
    models = {
        PYTHIA_70M: {"main": main, "step1000": step},
        "EleutherAI/pythia-160m": {"main": other},
        "EleutherAI/pythia-410m": {"main": main},
        "someone/pickled": {"main": pickled, "old": pickled},
        "someone/gated": {"main": main},
    }
    texts = {
        "someone/texts": {"main": {"README.md": b"# Texts\n", "data/train.jsonl": lines(ROWS)}},
        "someone/pairs": {"main": {"train.jsonl": lines([{"question": "q" * 99, "answer": "a" * 99}] * 30)}},
        "someone/gated": {"main": {"train.jsonl": lines(ROWS)}},
        PILE: {"main": {"train/00.jsonl.zst": zstd(lines(ROWS)), "val.jsonl.zst": zstd(lines(ROWS[:3]))}},
    }
    hub = Hub(models, texts)
    hub.gated.add("someone/gated")
    hub.weights = {"main": weights, "step1000": step_weights, "pythia-160m": other_weights}
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def caller(hub, home):
    caller = Caller(hub, home)
    yield caller
    caller.close()


def test_a_model_and_a_training_step_come_as_they_are_served(hub, caller):
    main = caller.value("model", f"hub:{PYTHIA_70M}")
    step = caller.value("model", f"hub:{PYTHIA_70M}@step1000")
    for loaded, revision in ((main, "main"), (step, "step1000")):
        assert loaded["weights"] == hub.weights[revision], revision
        assert loaded["rotary"] == 0.25 and loaded["pad"] == "<|padding|>" and not loaded["training"]
    assert main["weights"] != step["weights"]
    assert main["ids"] != step["ids"], "here the revisions differ in their tokenizers, too"
    for loaded, revision in ((main, "main"), (step, "step1000")):
        served = hub.repositories["models"][PYTHIA_70M][revision]["tokenizer.json"].decode()
        assert loaded["ids"] == Tokenizer.from_str(served).encode("def one(two):\n    return three").ids
    assert caller.value("tokenizer", f"hub:{PYTHIA_70M}@step1000") == step["ids"]


def test_offline_by_choice_a_model_comes_from_the_cache(hub, caller, home):
    caller.value("model", f"hub:{PYTHIA_70M}@step1000")
    asked = len(hub.requests)
    offline = Caller(hub, home, HF_HUB_OFFLINE="1")
    assert offline.value("model", f"hub:{PYTHIA_70M}@step1000")["weights"] == hub.weights["step1000"]
    assert offline.value("reachable") is False
    for name in ("model", "tokenizer"):
        message = offline.user_error(name, "hub:EleutherAI/pythia-410m", within=10)
        assert "HF_HUB_OFFLINE is set" in message and "L2E_PROFILE=quick" in message
    assert "HF_HUB_OFFLINE is set" in offline.user_error("corpus", "hub:someone/texts", within=10)
    offline.close()
    assert hub.requests[asked:] == []


def test_with_the_hub_gone_what_is_cached_still_loads(hub, caller, request):
    caller.value("model", f"hub:{PYTHIA_70M}")
    request.getfixturevalue("gone")
    answer = caller("model", f"hub:{PYTHIA_70M}")
    assert answer["value"]["weights"] == hub.weights["main"] and answer["seconds"] < 10


def test_a_broken_transfer_is_resumed(hub, caller):
    hub.break_next["model.safetensors"] = 1
    hub.requests.clear()
    assert caller.value("model", "hub:EleutherAI/pythia-160m")["weights"] == hub.weights["pythia-160m"]
    transfers = [asked for method, path, asked in hub.requests if method == "GET" and path.startswith("/cdn/")]
    assert transfers == ["", f"bytes={10 * 2**20}-"], "the second transfer starts behind the last whole piece"


@pytest.fixture()
def front_page(monkeypatch):
    """A server whose front page answers with ``front_page["status"]``; what it was asked stands in "requests"."""
    page = {"status": 200, "requests": []}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            page["requests"].append(self.command)
            self.send_response(page["status"])
            self.send_header("Location", "http://127.0.0.1:9/")  # where nobody is
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    huggingface_hub.close_session()  # an earlier one has other proxies
    yield page
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "there"),
    [
        (200, True),
        (302, True),
        (401, True),
        (403, True),
        (404, True),
        (405, True),
        (500, False),
        (502, False),
        (503, False),
    ],
)
def test_any_answer_but_a_failure_of_its_own_is_a_hub(front_page, status, there):
    """A mirror may have no front page, hide it, or send away from it."""
    front_page["status"] = status
    assert ways.reachable() is there
    assert front_page["requests"] == ["HEAD"], "asked once, nothing downloaded"


def test_nobody_is_asked_where_offline_is_chosen(front_page, monkeypatch):
    assert ways.offline() is False
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert ways.offline() is True and ways.reachable() is False
    assert front_page["requests"] == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_both_variables_choose_offline(variable):
    program = "from l2e_min.lab.hub import offline, reachable; print(offline(), reachable())"
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=os.environ | {variable: "1"}, capture_output=True, text=True, timeout=60)
    assert run.stdout == "True False\n"


def test_a_hub_that_is_gone_is_said_at_once(caller, gone):
    for call in (("model", "hub:EleutherAI/pythia-410m"), ("tokenizer", "hub:EleutherAI/pythia-410m")):
        message = caller.user_error(*call, within=10)
        assert "does not answer" in message and "L2E_PROFILE=quick" in message
    message = caller.user_error("corpus", "hub:someone/texts", within=10)
    assert "does not answer" in message and "L2E_PROFILE=quick" in message
    assert caller.value("reachable") is False
    assert "L2E_PROFILE=quick works" in caller.user_error("paper")


@pytest.mark.slow
def test_a_hub_that_never_answers_is_given_up(hub, caller):
    hub.silent = True
    try:
        assert caller.value("reachable", 1.0) is False
        assert "does not answer" in caller.user_error("model", "hub:EleutherAI/pythia-410m", within=20)
    finally:
        hub.silent = False


def test_a_hub_that_is_down_is_said_at_once(hub, caller):
    hub.down = True
    try:
        for call in (("model", "hub:EleutherAI/pythia-410m"), ("corpus", "hub:someone/texts")):
            assert "does not answer" in caller.user_error(*call, within=10)
        assert caller.value("reachable") is False
    finally:
        hub.down = False


@pytest.mark.parametrize(
    ("call", "name", "says"),
    [
        ("model", "hub:someone/none", "no such name.*hf auth login"),
        ("model", "hub:someone/gated", "asks for consent.*hf auth login"),
        ("model", f"hub:{PYTHIA_70M}@step7", "no such revision.*step143000"),
        ("model", "hub:", "no name in 'hub:'"),
        ("tokenizer", "hub:someone/none", "no such name"),
        ("corpus", "hub:someone/none", "no such name"),
        ("corpus", "hub:someone/gated", "asks for consent"),
        ("corpus", "hub:someone/pairs", "no text column.*answer.*question"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(caller, call, name, says):
    message = caller.user_error(call, name, within=15)
    assert re.search(says, message), message
    assert "L2E_PROFILE=quick" in message or "no name" in message or "column" in message


@pytest.mark.parametrize("revision", ["main", "old"])
def test_pickled_weights_are_refused_and_nobody_is_asked_to_convert_them(hub, caller, revision):
    hub.requests.clear()
    before = len(caller("reachable")["refused"])
    message = caller.user_error("model", f"hub:someone/pickled@{revision}", within=15)
    assert "no safetensors" in message and "L2E_PROFILE=quick" in message
    asked = [path for _, path, _ in hub.requests]
    assert not [path for path in asked if ".bin" in path or "discussions" in path or "commits" in path], asked
    assert len(caller("reachable")["refused"]) == before


def test_a_dataset_is_read_and_split(hub, caller):
    read = caller.value("corpus", "hub:someone/texts")
    together = sorted([*read["train"], *read["validation"]], key=lambda document: int(document[1].split("#")[1]))
    assert together == [[row["text"], f"hub:someone/texts#{i}"] for i, row in enumerate(ROWS)]
    assert 0 < len(read["validation"]) < len(read["train"])


def test_a_dataset_survives_a_broken_transfer(hub, caller):
    whole = caller.value("corpus", "hub:someone/texts")
    hub.break_next["data/train.jsonl"] = 1
    assert caller.value("corpus", "hub:someone/texts") == whole
    assert hub.break_next["data/train.jsonl"] == 0


@pytest.mark.slow
def test_a_dataset_that_keeps_breaking_is_given_up(hub, caller):
    hub.break_next["data/train.jsonl"] = 10**6
    try:
        message = caller.user_error("corpus", "hub:someone/texts", within=60)
    finally:
        hub.break_next["data/train.jsonl"] = 0
    assert "L2E_PROFILE=quick" in message


@pytest.mark.skipif(not importlib.util.find_spec("zstandard"), reason="zstandard is not installed")
def test_the_pile_as_it_is_stored_is_read(caller):
    read = caller.value("corpus", f"hub:{PILE}")
    assert {text for text, _ in [*read["train"], *read["validation"]]} == {row["text"] for row in ROWS}


@pytest.mark.skipif(bool(importlib.util.find_spec("zstandard")), reason="zstandard is installed")
def test_without_zstandard_the_pile_says_what_to_install(caller):
    assert "pip install zstandard" in caller.user_error("corpus", f"hub:{PILE}", within=30)


def test_nothing_but_the_hub_is_asked(caller):
    refused = set(caller("reachable")["refused"])
    # datasets looks for the hub's viewer beside the endpoint it was given
    assert refused <= {"datasets-server.127.0.0.1"}, refused
