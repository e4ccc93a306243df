"""The front door: help, bad input, lazy imports, and ``l2e claims``."""

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest

from l2e_min.lab import cli
from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger import claims as ledger
from l2e_min.lab.ledger.claims import Measurement

BUILT = list(filter(cli.is_built, cli.COMMANDS))


def l2e(*words: str, **variables: str) -> subprocess.CompletedProcess:
    """Runs the command line as a reader does."""
    environment = os.environ | {"COLUMNS": "100"} | variables
    command = [sys.executable, "-m", "l2e_min", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, encoding="utf-8")


# --- help


def test_help_lists_every_command_and_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for name in BUILT:
        assert f"\n    {name} " in text
    assert "example: l2e claims" in text


def test_every_listed_command_is_built():
    assert BUILT == list(cli.COMMANDS)


@pytest.mark.parametrize("name", BUILT)
def test_a_command_keeps_the_contract(name, capsys):
    module = import_module(f"{cli.PACKAGE}.{name}")
    assert cli.help_texts(name) == {"HELP": module.HELP, "EXAMPLE": module.EXAMPLE}
    assert "\n" not in module.HELP + module.EXAMPLE
    assert module.EXAMPLE.startswith(f"l2e {name}")
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"example: {module.EXAMPLE}" in text
    assert module.HELP.split()[-1] in text


@pytest.mark.parametrize("name", BUILT)
def test_the_example_is_a_valid_command(name):
    words = cli.help_texts(name)["EXAMPLE"].split()[1:]
    arguments = cli._parser(name).parse_args(words)
    assert arguments.command == name


def test_l2e_alone_prints_help_and_fails(capsys):
    assert cli.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("usage: l2e")


def test_version(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"l2e {version('l2e-min')}\n"


HEAVY = ("torch", "numpy", "transformers", "datasets", "sklearn", "scipy", "matplotlib")


@pytest.mark.parametrize("words", [["--help"], ["claims"], ["pretrain", "--help"]], ids=" ".join)
def test_the_front_door_imports_nothing_heavy(words):
    program = (
        "import sys\nfrom l2e_min.__main__ import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120)
    assert run.stderr.splitlines()[-1] == "[]", "l2e --help must stay quick"


# --- bad input and interruptions


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clams"], "invalid choice: 'clams'"),
        (["claims", "--colour"], "unrecognized arguments: --colour"),
        (["claims", "--id"], "argument --id: expected one argument"),
        (["claims", "--id", "C99"], "unknown claim 'C99'"),
        (["claims", "--results", "no/such/folder"], "no/such/folder is not a folder"),
        (["claims", "--js"], "unrecognized arguments: --js"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, message, capsys):
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.startswith("l2e: ") and printed.err.count("\n") == 1


@pytest.mark.parametrize(("error", "status"), [(UserError("no text"), 2), (KeyboardInterrupt(), 130)])
def test_what_a_command_raises(error, status, monkeypatch, capsys):
    def run(_):
        raise error

    monkeypatch.setattr("l2e_min.lab.commands.claims.run", run)
    assert cli.main(["claims"]) == status
    assert capsys.readouterr().err.count("\n") == 1


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("l2e_min.lab.commands.claims.run", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["claims"])


def test_the_status_of_a_command_is_passed_on(monkeypatch):
    monkeypatch.setattr("l2e_min.lab.commands.claims.run", lambda _: 3)
    assert cli.main(["claims"]) == 3


def test_a_closed_pipe_is_quiet():
    command = [sys.executable, "-m", "l2e_min", "claims"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # long before the command has started up
    error = process.stderr.read()
    assert process.wait(timeout=60) == 141
    assert error == b""


def test_a_terminal_without_the_signs_gets_no_traceback():
    run = l2e("claims", PYTHONIOENCODING="ascii")
    assert run.returncode == 0 and "?" in run.stdout
    assert run.stderr == ""


# --- l2e claims


@pytest.fixture()
def recorded(tmp_path, monkeypatch):
    """A results folder in which C01 has been measured."""
    monkeypatch.setenv("L2E_RESULTS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    exact = {f"max_relative_error_{name}": Measurement.exact(2e-15) for name in ("mean", "var")}
    measurements = exact | {"cost_exponent": Measurement(0.01, -0.02, 0.04, 1, n=40)}
    ledger.record("C01", measurements, profile="quick", chapter="02_monosemantic_scale", notes="on one core")
    return tmp_path


def test_claims_prints_a_line_a_claim_and_totals(recorded, capsys):
    assert cli.main(["claims", "--results", str(recorded)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("C01  ✓ reproduced ")
    assert lines[1].startswith("C02  … not yet ")
    assert lines[-1] == "27 claims: 1 reproduced, 0 not reproduced, 0 inconclusive, 26 not yet"
    assert len(lines) == 27 + 2
    assert max(map(len, lines)) <= 80


def test_the_shipped_results_are_the_default(capsys):
    assert cli.main(["claims"]) == 0
    shipped = ledger.results()
    verdicts = {claim.id: ledger.verdict(claim, shipped.get(claim.id)).status for claim in ledger.load_claims()}
    for line in capsys.readouterr().out.splitlines()[:27]:
        assert line[7:].startswith(verdicts[line[:3]])


def test_one_claim_in_detail(recorded, capsys):
    assert cli.main(["claims", "--id", "c01", "--results", str(recorded)]) == 0
    text = capsys.readouterr().out
    for part in ("Lemma 3.2", "at most 1e-09", "[-0.020, 0.040]", "on one core", "verdict\n  ✓ reproduced"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_papers_figures_stand_in_the_detail(capsys):
    assert cli.main(["claims", "--id", "C15"]) == 0
    assert "L2E, 70M / 2.8B: 3.4 / 1.5 %" in capsys.readouterr().out


def test_json_holds_everything(recorded, capsys):
    assert cli.main(["claims", "--json", "--results", str(recorded)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [claim.id for claim in ledger.load_claims()]
    assert rows[0]["verdict"] == "reproduced"
    assert rows[0]["result"]["measurements"]["cost_exponent"]["high"] == 0.04
    assert rows[1]["result"] is None


def test_a_broken_ledger_is_one_clear_line(tmp_path):
    (tmp_path / "claims.yml").write_text("claims: [")
    run = l2e("claims", L2E_DATA=str(tmp_path))
    assert run.returncode == 2
    assert run.stderr.startswith("l2e: claims.yml is not valid YAML") and run.stderr.count("\n") == 1
