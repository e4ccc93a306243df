"""Two streaming passes against the same measures with all values in memory, and what the passes hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from study_data import FAMILIES, LAYERS, NEURONS, dataset, tiny, tokenizer

from l2e_min import false_killing_rate, ks_statistic, monosemantic_scale, relative_feature
from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import neuron_values
from l2e_min.lab.probing import probe, split_rows
from l2e_min.lab.study.dataset import DEPTH, PLACE, observe, parts_of, phi_of
from l2e_min.lab.study.levels import SHARES
from l2e_min.lab.study.stream import ValueStream

OPTIONS = {"batch_size": 7, "progress": False}


@pytest.fixture(scope="module")
def words():
    return tokenizer()


@pytest.fixture(scope="module")
def data():
    return dataset()


@pytest.fixture(
    scope="module", params=[FAMILIES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])]
)
def family(request, words, data):
    """(model, values (n, layers * neurons) in memory, what the two passes kept)."""
    model = tiny(request.param)
    values = neuron_values(model, words, data.texts, **OPTIONS).flatten(1)
    return model, values, observe(model, words, data, seed=5, **OPTIONS)


def in_memory(values, seen):
    """(phi (n2, N) of the held-out rows, labels (n2,), l* (N,) by the other rows): METHOD 2 to 4, float64."""
    z, held = values.double(), seen.held
    mean, var = z[~held].mean(0), z[~held].var(0)
    star = relative_feature(monosemantic_scale(z[~held], mean, var), seen.labels[~held])
    return monosemantic_scale(z[held], mean, var), seen.labels[held], star


# ---- the same numbers as in memory -------------------------------------------------------------------------------


def test_probes_are_those_of_all_values(family, data):
    _, values, seen = family
    expected = probe(values, data.labels, groups=data.sources, seed=5)
    for name in ("feature", "neuron", "f1", "f1_train", "sign", "train_rows", "test_rows"):
        np.testing.assert_array_equal(getattr(seen.probes, name), getattr(expected, name), err_msg=name)
    assert (seen.probes.layer == 0).all() and seen.probes.neuron.max() >= 2 * NEURONS
    assert np.array_equal(seen.probes.test_rows, seen.held.nonzero()[:, 0].numpy())


def test_star_phi_and_ks_are_those_of_all_values(family):
    _, values, seen = family
    phi, labels, star = in_memory(values, seen)
    assert torch.equal(seen.star, star) and len(star.unique()) == 3
    assert seen.some.tolist() == list(range(LAYERS * NEURONS))
    torch.testing.assert_close(seen.some_values, values, rtol=0, atol=0)
    torch.testing.assert_close(seen.some_phi()[seen.held], phi, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(seen.ks(), ks_statistic(phi, labels, star), rtol=1e-12, atol=1e-12)
    assert seen.ks().std() > 0.01
    null = ks_statistic(phi, seen.shuffled[seen.held], star)
    torch.testing.assert_close(seen.ks(null=True), null, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("null", [False, True])
def test_fkr_is_that_of_all_pairs(family, data, null):
    _, values, seen = family
    phi, labels, star = in_memory(values, seen)
    labels = seen.shuffled[seen.held] if null else labels
    place, _ = split_rows(data.labels[seen.held], 0.5, 6, np.array(data.sources)[seen.held])
    rates = (seen.null_levels if null else seen.levels).fkr()
    assert rates.shape == (2, LAYERS, len(SHARES))
    compared = 0
    for part, rows in ((PLACE, torch.from_numpy(place)), (DEPTH, torch.from_numpy(~place))):
        for layer in range(LAYERS):
            mine = slice(layer * NEURONS, (layer + 1) * NEURONS)
            for column, share in enumerate(SHARES):
                expected = false_killing_rate(phi[rows, mine], labels[rows], share, star=star[mine])
                got = rates[part, layer, column]
                assert np.isnan(got) == np.isnan(expected)
                if share == 1:
                    assert got == pytest.approx(expected, rel=1e-12)
                elif share * phi[rows, mine].numel() >= 50:
                    assert got == pytest.approx(expected, abs=0.025)
                    compared += 1
    assert compared >= 40


def test_no_half_sees_the_other(family, data):
    *_, seen = family
    files = np.array(data.sources)
    held, part = parts_of(data, 5)
    assert torch.equal(held, seen.held) and ((part == -1) == ~held).all()
    groups = [set(files[(part == number).numpy()]) for number in (-1, PLACE, DEPTH)]
    assert sum(map(len, groups)) == len(set(files)) and all(groups)
    assert torch.equal(seen.shuffled[~held], seen.labels[~held]) and not torch.equal(seen.shuffled, seen.labels)
    assert torch.equal(seen.shuffled[held].bincount(), seen.labels[held].bincount())


def test_a_few_random_neurons(words, data, family):
    model, values, whole = family
    seen = observe(model, words, data, seed=5, random_neurons=9, candidates=2, **OPTIONS)
    assert len(seen.some.unique()) == 9 and seen.some.tolist() == sorted(seen.some.tolist())
    torch.testing.assert_close(seen.some_values, values[:, seen.some], rtol=0, atol=0)
    torch.testing.assert_close(seen.ks(), whole.ks()[seen.some])
    assert len(seen.probes) == 2 * 3 and set(seen.probes.neuron) <= set(whole.probes.neuron)
    assert seen.layer_of(torch.tensor([0, NEURONS - 1, NEURONS, 3 * NEURONS - 1])).tolist() == [0, 0, 1, 2]
    other = observe(model, words, data, seed=6, random_neurons=9, **OPTIONS)
    assert not torch.equal(other.some, seen.some) and not torch.equal(other.held, seen.held)


def test_run_again_for_each_pass_or_kept_in_memory_is_the_same(words, data, family):
    model, _, kept = family
    again = observe(model, words, data, seed=5, memory=0, **OPTIONS)
    same(again, kept)


@pytest.mark.slow
def test_the_size_of_batches_does_not_matter(words, data):
    model = tiny("gpt_neox")
    a, b = (observe(model, words, data, batch_size=size, progress=False) for size in (1, 64))
    assert torch.equal(a.star, b.star)
    torch.testing.assert_close(a.ks(), b.ks(), atol=0.03, rtol=0)  # rounding may swap two neighbours of equal phi
    torch.testing.assert_close(a.first.scores(1), b.first.scores(1), rtol=1e-3, atol=1e-3)


def same(a, b):
    assert torch.equal(a.star, b.star) and torch.equal(a.some, b.some)
    assert torch.equal(a.some_values, b.some_values) and torch.equal(a.first.mean, b.first.mean)
    assert torch.equal(a.levels.counts, b.levels.counts) and torch.equal(a.null_levels.counts, b.null_levels.counts)
    for name in ("feature", "neuron", "f1", "f1_train"):
        np.testing.assert_array_equal(getattr(a.probes, name), getattr(b.probes, name))


# ---- what is held ------------------------------------------------------------------------------------------------


def runs_of(model):
    """Counts the model's forward passes in ``runs_of(model)[0]``."""
    count = [0]
    model.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    model.base_model.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    return count


@pytest.mark.slow
def test_what_fits_is_kept_and_the_model_runs_once(words, data):
    model = tiny("gpt_neox")
    count, needed = runs_of(model), 4 * len(data.texts) * LAYERS * NEURONS
    for memory, runs in ((needed, 1), (needed - 1, 2), (0, 2)):
        count[0] = 0
        observe(model, words, data, memory=memory, **(OPTIONS | {"batch_size": 12}))
        assert count[0] == runs * 6, memory


def test_a_stream_gives_every_text_once_each_time(words, data, family):
    model, values, _ = family
    for memory in (0, 2**30):
        stream = ValueStream(model, words, data.texts, memory=memory, **OPTIONS)
        assert (stream.layers, stream.neurons, stream.width) == (LAYERS, NEURONS, LAYERS * NEURONS)
        next(iter(stream))  # a pass that is given up leaves nothing half kept
        for _ in range(2):
            rows, z = (torch.cat(parts) for parts in zip(*stream, strict=True))
            assert sorted(rows.tolist()) == list(range(len(data.texts)))
            assert torch.equal(z, values[rows])
        assert torch.equal(stream.columns([40, 3]), values[:, [40, 3]])


def peak(work) -> int:
    """Bytes of torch's allocations at their highest, above those at the start."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    held = highest = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(words):
    """Wide layers, short texts: here the values of all neurons are what fills the memory."""
    import transformers as t

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 1024}
    model = t.GPTNeoXForCausalLM(t.GPTNeoXConfig(vocab_size=1024, max_position_embeddings=128, **size)).eval()
    grown = {}
    for memory in (0, 2**30):
        peaks = []
        for rows in (16, 64):
            data = dataset(rows)
            data = replace(data, texts=[" ".join(text.split()[:4]) for text in data.texts])
            options = {"batch_size": 8, "progress": False, "random_neurons": 20, "candidates": 2, "memory": memory}
            peaks.append(peak(lambda data=data, options=options: observe(model, words, data, **options)))
        grown[memory] = peaks[1] - peaks[0]
    values = 4 * 3 * (64 - 16) * 3 * 1024  # bytes of the values of the texts that came on top
    assert grown[2**30] > 0.9 * values, "else the measurement sees nothing"
    assert grown[0] < 0.1 * values


# ---- what cannot be measured -------------------------------------------------------------------------------------


def silenced(model, value: float = 0.0):
    """All neurons of the first layer constant."""
    first = model.gpt_neox.layers[0].mlp.dense_h_to_4h
    first.weight.data.zero_()
    first.bias.data.fill_(value)
    return model


def test_neurons_that_are_constant_take_no_part(words, data):
    model = silenced(tiny("gpt_neox"))
    seen = observe(model, words, data, random_neurons=30, **OPTIONS)
    assert seen.first.alive.tolist() == [False] * NEURONS + [True] * 2 * NEURONS
    assert seen.some.min() >= NEURONS and len(seen.some) == 30
    assert seen.probes.neuron.min() >= NEURONS
    assert (phi_of(torch.ones(2, 3 * NEURONS), seen.first)[:, :NEURONS] == 0).all()
    assert np.isfinite(seen.levels.fkr()[:, :, -1]).all()


def test_data_that_cannot_be_split_is_named(words, data):
    one_file = replace(data, sources=[source.split("/")[0] for source in data.sources])
    three = replace(data, sources=[s if s[:4] != "code" else f"code/{i % 2}" for i, s in enumerate(data.sources)])
    for bad, says in ((one_file, "numbers: 1 files"), (three, "code: 2 files")):
        with pytest.raises(
            UserError, match=rf"words cannot be split .*\({says}\); give each feature more files"
        ) as caught:
            observe(None, None, bad)  # before the model is even looked at
        assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_measured_is_named(words, data):
    model = tiny("gpt_neox")
    model.gpt_neox.layers[1].mlp.dense_h_to_4h.bias.data[3] = torch.nan
    with pytest.raises(UserError, match="hold NaN or infinity"):
        observe(model, words, data, **OPTIONS)
    for layer in (model := tiny("gpt_neox")).gpt_neox.layers:
        layer.mlp.dense_h_to_4h.weight.data.zero_()
    with pytest.raises(UserError, match="every neuron of the model is constant over the texts of words"):
        observe(model, words, data, **OPTIONS)
    with pytest.raises(UserError, match="no such aggregate: 'median'"):
        observe(tiny("gpt2"), words, data, aggregate="median", **OPTIONS)
    with pytest.raises(UserError, match="no MLP blocks known in Linear"):
        observe(torch.nn.Linear(2, 2), words, data)
