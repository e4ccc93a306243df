"""GLUE from the hub: a tiny GLUE under its real name, served by a stand-in on this machine and read by datasets."""

import numpy as np
import pytest
import test_hub
from hub_standin import GLUE_CONFIGS, Hub, glue_row, tiny_glue

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.carve import carve
from l2e_min.lab.finetuning.glue import GLUE, REPOSITORY, glue_task, rows_of
from l2e_min.lab.finetuning.task import METRICS, Rows

CALL = """
def glue(name, **options):
    from l2e_min.lab.finetuning.glue import glue_task
    task = glue_task(name, **options)
    def split(rows):
        return [list(rows.first), rows.second and list(rows.second), rows.labels.tolist(), str(rows.labels.dtype)]
    told = {key: getattr(task, key) for key in ("name", "title", "kind", "metric", "classes", "like", "max_tokens")}
    told |= {key: split(getattr(task, key)) for key in ("train", "dev", "test")}
    return told | {"more": {name: split(rows) for name, rows in task.more}, "sources": sorted(set(task.train.sources))}

def glue_with(name, options):
    return glue(name, **options)

"""


def glue_caller(hub, home, **environment) -> test_hub.Caller:
    """A process of its own, as in test_hub, that knows ``glue``, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_hub, "CALLER", test_hub.CALLER.replace("\nout = os.fdopen", CALL + "\nout = os.fdopen"))
        return test_hub.Caller(hub, home, **environment)


SLOW_FIXTURES = {"hub", "caller"}  # a process with the Hugging Face libraries


@pytest.fixture(scope="module")
def hub():
    hub = Hub({}, {REPOSITORY: {"main": tiny_glue()}})
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def caller(hub, home):
    caller = glue_caller(hub, home)
    yield caller
    caller.close()


def published(config: str, split: str) -> list[tuple]:
    """(A, B or None, label) of every row that is served."""
    columns, _, sizes = GLUE_CONFIGS[config]
    rows = [glue_row(config, split, number) for number in range(sizes[split])]
    return [(row[columns[0]], row[columns[1]] if len(columns) == 2 else None, row["label"]) for row in rows]


def told(split: list) -> list[tuple]:
    first, second, labels, _ = split
    return list(zip(first, second or [None] * len(first), labels, strict=True))


@pytest.mark.parametrize("config", list(GLUE))
def test_each_task_comes_as_it_is_served(caller, config):
    task = caller.value("glue", config)
    known = GLUE[config]
    dev = "validation_matched" if config == "mnli" else "validation"
    assert told(task["test"]) == published(config, dev), "the official dev set is what is reported"
    assert sorted(told(task["train"]) + told(task["dev"])) == sorted(published(config, "train"))
    assert len(task["dev"][0]) == GLUE_CONFIGS[config][2]["train"] // 10
    mismatched = {"mismatched": published(config, "validation_mismatched")} if config == "mnli" else {}
    assert {name: told(rows) for name, rows in task["more"].items()} == mismatched
    assert tuple(task["classes"]) == GLUE_CONFIGS[config][1] == known.classes
    assert (task["kind"], task["test"][3]) == (
        ("regression", "float64") if config == "stsb" else ("classification", "int64")
    )
    assert (task["name"], task["like"], task["metric"]) == (config, known.title, known.metric)
    assert task["sources"] == [""] and task["max_tokens"] == 128


def test_the_table_is_the_one_of_the_paper():
    """W24 Table 1: these eight, in this order; F1 for QQP and MRPC, Spearman for STS-B. CoLA's own is Matthews."""
    metrics = ["accuracy", "f1", "accuracy", "accuracy", "matthews", "spearman", "f1", "accuracy"]
    assert [known.title for known in GLUE.values()] == "MNLI QQP QNLI SST-2 CoLA STS-B MRPC RTE".split()
    assert [known.metric for known in GLUE.values()] == metrics and set(metrics) == set(METRICS)


def test_a_name_as_the_paper_writes_it_and_a_chosen_number_of_rows(caller):
    task = caller.value("glue_with", "SST-2", {"dev_rows": 7, "seed": 3})
    assert task["name"] == "sst2" and len(task["dev"][0]) == 7
    assert task == caller.value("glue_with", "sst_2", {"dev_rows": 7, "seed": 3})
    assert task["dev"] != caller.value("glue_with", "sst2", {"dev_rows": 7, "seed": 4})["dev"]


def test_only_the_files_of_the_task_are_asked_for_and_a_broken_transfer_goes_on(hub, tmp_path):
    caller = glue_caller(hub, tmp_path)
    hub.requests.clear()
    hub.break_next["rte/train-00000-of-00001.parquet"] = 1
    assert sum(len(caller.value("glue", "rte")[split][0]) for split in ("train", "dev")) == 40
    assert hub.break_next["rte/train-00000-of-00001.parquet"] == 0
    assert {path.rsplit("/", 2)[1] for _, path, _ in hub.requests if path.endswith(".parquet")} == {"rte"}
    caller.close()


def test_offline_by_choice_a_task_comes_from_the_cache(hub, caller, home):
    before = caller.value("glue", "rte")
    hub.requests.clear()
    offline = glue_caller(hub, home, HF_HUB_OFFLINE="1")
    assert offline.value("glue", "rte") == before
    offline.close()
    assert hub.requests == []


def test_with_the_hub_gone_what_is_cached_still_loads(caller, request):
    before = caller.value("glue", "mnli")
    request.getfixturevalue("gone")
    answer = caller("glue", "mnli")
    assert answer["value"] == before and answer["seconds"] < 10


def test_without_hub_and_cache_one_line_names_what_works(hub, tmp_path, request):
    caller, offline = glue_caller(hub, tmp_path), glue_caller(hub, tmp_path, HF_HUB_OFFLINE="1")
    ways = ("L2E_PROFILE=quick", "a folder of GLUE's published train.tsv and dev.tsv")
    message = offline.user_error("glue", "rte", within=30)
    assert "HF_HUB_OFFLINE is set" in message and all(way in message for way in ways)
    caller.value("glue", "cola")
    request.getfixturevalue("gone")
    message = caller.user_error("glue", "rte", within=10)
    assert "load GLUE's RTE" in message and "does not answer" in message and all(way in message for way in ways)
    caller.close()
    offline.close()


def rte_of(labels, classes=GLUE["rte"].classes, second="sentence2"):
    """A ``datasets.Dataset`` in the shape of RTE."""
    import datasets

    features = {"sentence1": datasets.Value("string"), second: datasets.Value("string")}
    features |= {"label": datasets.ClassLabel(names=list(classes))}
    rows = {"sentence1": ["A"] * len(labels), second: ["B"] * len(labels), "label": labels}
    return datasets.Dataset.from_dict(rows, datasets.Features(features), split="validation")


def test_another_data_set_under_the_name_is_refused():
    assert rows_of(GLUE["rte"], rte_of([0, 1])).labels.tolist() == [0, 1]
    for data, says in (
        (rte_of([0, 1], second="hypothesis"), r"RTE of nyu-mll/glue has the columns .*hypothesis"),
        (rte_of([0, 1], classes=("not_entailment", "entailment")), "has the classes .*'not_entailment', 'entailment'"),
        (rte_of([0, -1]), "the split validation has no rows, or rows without a label"),
        (rte_of([]), "has no rows"),
    ):
        with pytest.raises(UserError, match=says):
            rows_of(GLUE["rte"], data)


def test_a_task_that_is_none_is_said():
    with pytest.raises(UserError, match=r"no task 'wnli' in GLUE here; expected one of mnli, qqp, .*rte"):
        glue_task("wnli")


def some(labels) -> Rows:
    labels = np.asarray(labels)
    names = tuple(f"row {i}" for i in range(len(labels)))
    return Rows(names, None, labels, names)


def test_the_carved_rows_keep_the_shares_of_the_classes():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [700, 250, 50]))
    seen = set()
    for seed in range(20):
        train, dev = carve(some(labels), 100, seed)
        assert np.abs(np.bincount(dev.labels) - [70, 25, 5]).max() <= 1 and len(dev) == 100
        assert sorted(train.first + dev.first) == sorted(some(labels).first), "every row on one side"
        numbers = [int(name.split()[1]) for name in dev.first]
        assert numbers == sorted(numbers), "in their old order"
        seen.add(dev.first)
    assert len(seen) == 20
    assert carve(some(labels), 100, 5)[1].first == carve(some(labels), 100, 5)[1].first


def test_each_row_is_as_likely_to_choose():
    labels = np.repeat([0, 1], [13, 7])
    taken = sum(
        np.isin(np.arange(20), [int(n.split()[1]) for n in carve(some(labels), 4, s)[1].first]) for s in range(2000)
    )
    assert np.abs(taken / 2000 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 2000)


def test_carved_values_span_the_range():
    values = np.random.default_rng(1).random(1000)
    _, dev = carve(some(values), 50)
    assert np.abs(np.sort(dev.labels) - (np.arange(50) + 0.5) / 50).max() < 0.06


@pytest.mark.parametrize(("rows", "size"), [(5, 1), (40, 4), (19_999, 1999), (50_000, 2000)])
def test_a_tenth_chooses_and_at_most_two_thousand(rows, size):
    assert len(carve(some(np.arange(rows) % 2))[1]) == size


@pytest.mark.parametrize("dev_rows", [0, -3, 10, 99])
def test_one_side_without_rows_is_refused(dev_rows):
    with pytest.raises(UserError, match=f"cannot take {dev_rows} of 10"):
        carve(some(np.arange(10) % 2), dev_rows)
