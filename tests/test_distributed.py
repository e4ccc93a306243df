"""Two processes that share a batch compute what one computes with all of it: moments, thresholds, weights."""

import pytest
import torch
import torch.multiprocessing
from distributed_runs import SPLITS, WAYS, process, train
from safetensors.torch import load_file

from l2e_min.distributed import processes

SLOW_FIXTURES = {"pair"}  # two more processes


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """By rank: {name of a run: its tensors}, and what failed."""
    folder = tmp_path_factory.mktemp("pair")
    torch.multiprocessing.spawn(process, args=(str(folder),), nprocs=2)
    found = []
    for rank in (0, 1):
        runs = {}
        for key, tensor in load_file(folder / f"{rank}.safetensors").items():
            name, _, rest = key.partition("|")
            runs.setdefault(name, {})[rest] = tensor
        found.append((runs, (folder / f"{rank}.txt").read_text()))
    return found


def agree(got, want, **near):
    assert got.keys() == want.keys()
    for key, tensor in want.items():
        torch.testing.assert_close(
            got[key], tensor, **({"rtol": 1e-5, "atol": 1e-5} | near), msg=lambda m, k=key: k + m
        )


@pytest.fixture(scope="module")
def alone():
    """What one process makes of the joint batches, by way."""
    return {way: train(way) for way in WAYS}


def test_nothing_failed(pair):
    assert [failed for _, failed in pair] == ["", ""]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", [*(f"ddp/{split}" for split in SPLITS), "fsdp/equal"])
def test_two_processes_are_one(pair, alone, run, way):
    for runs, _ in pair:
        agree(runs[f"{run}/{way}"], alone[way])


@pytest.mark.parametrize("way", WAYS)
def test_every_way_did_something(alone, way):
    free = train("log_ms in the loss", weight=0.0)
    assert (alone[way]["first.weight"] - free["first.weight"]).abs().max() > 1e-3


def test_both_hold_the_same_state_to_the_last_bit(pair):
    for name, mine in pair[0][0].items():
        if name != "ddp/alone":
            agree(pair[1][0][name], mine, rtol=0, atol=0, equal_nan=True)


def test_a_nan_in_one_process_is_skipped_by_both(pair):
    want = train("log_ms in the loss", poison=5)
    assert want["act/moments.skipped"] == 1
    for runs, _ in pair:
        agree(runs["ddp/poison"], want)


def test_a_group_of_ones_own(pair):
    agree(pair[0][0]["ddp/group"], pair[0][0]["ddp/equal/log_ms in the loss"], rtol=0, atol=0)


def test_without_sync_each_counts_its_own_inputs(pair, alone):
    one, other = (runs["ddp/alone"] for runs, _ in pair)
    # After n_f = 4 batches the past counts as four of the present size: 5 x 16 inputs here, 5 x 32 together.
    assert one["act/moments.count"] == other["act/moments.count"] == 5 * 16
    assert alone["RD, threshold"]["act/moments.count"] == 5 * 32
    assert not torch.equal(one["act/moments.mean"], other["act/moments.mean"])


def test_one_process_shares_with_nobody():
    assert processes() == 1
