"""Contents of a finished run, and commands on it."""

import json
import shutil

import pytest
from pages import Page, assert_stands_alone
from rich.console import Console
from trainings import assert_same_training, config, results_of

from jaxhash.runs import train_run as run
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.report_run import report_run
from jaxhash.utils.errors import UserError


@pytest.mark.slow
def test_times_are_logged_programs_kept_and_steps_traced(undisturbed, tmp_path, capsys):
    records = read_metrics(undisturbed.run.run_dir / "metrics.jsonl")
    assert records[0]["compile_seconds"] > 0
    assert all(0 <= r["wait_share"] <= 1 and r["step_seconds"] > 0 for r in records)
    assert list((undisturbed.run.run_dir / "cache").iterdir())
    found = results_of(undisturbed)["speed"]
    assert found["examples_per_second"] > 0 and found["peak_bytes"] > 2**20
    assert found["peak_bytes_with_evaluation"] >= found["peak_bytes"]
    again = config(tmp_path / "run", compilation_cache=False)
    run.train(again, Console(width=200), profile=True)
    said = capsys.readouterr().out
    assert "with the evaluation at most" in said
    assert "examples/s" in said and "of a step" in said and "the trace is in" in said
    assert not (again.run.run_dir / "cache").exists()
    assert list((again.run.run_dir / "profile").rglob("*.xplane.pb"))
    timed = json.loads((again.run.run_dir / "profile" / "loss.json").read_text())
    assert timed["loss_share"] == timed["loss_seconds"] / timed["step_seconds"]
    assert_same_training(undisturbed, again)


def test_a_finished_run_says_so_and_does_nothing(undisturbed, capsys):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.run.run_dir.rglob("*")}
    results = run.train(undisturbed, Console(width=200), profile=True)
    said = capsys.readouterr().out
    assert "is finished" in said and "`profile`: no step is left to trace" in said
    assert results == json.loads((undisturbed.run.run_dir / "results.json").read_text())
    assert before == {p: p.stat().st_mtime_ns for p in undisturbed.run.run_dir.rglob("*")}


def test_another_configuration_is_refused_with_the_difference(undisturbed, console):
    with pytest.raises(UserError, match="`bits` is 32 there and 16 here"):
        run.train(config(undisturbed.run.run_dir, bits=16), console)


def test_a_batch_smaller_than_the_devices_is_refused(tmp_path, console):
    with pytest.raises(UserError, match="`batch_size=7` is smaller than the 8 devices"):
        run.train(config(tmp_path / "run", batch_size=7), console)
    assert not (tmp_path / "run").exists()


def test_evaluate_gets_the_same_numbers(undisturbed, capsys):
    evaluate(undisturbed.run.run_dir, Console(width=200))
    assert "to the last digit" in capsys.readouterr().out


def test_evaluate_notices_another_number(undisturbed, tmp_path, console):
    path = undisturbed.run.run_dir / "results.json"
    kept = path.read_text()
    results = json.loads(kept)
    path.write_text(json.dumps(results | {"map": results["map"] + 1e-15}))
    try:
        with pytest.raises(UserError, match="map"):
            evaluate(undisturbed.run.run_dir, console)
    finally:
        path.write_text(kept)


@pytest.mark.slow
def test_evaluate_names_what_an_older_version_did_not_write(undisturbed, tmp_path, capsys):
    """Neither a new number nor a new entry of a table is a difference; an old one that is gone is."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.run.run_dir, folder)
    results = results_of(undisturbed)
    for key in ("model_choice", "health"):
        del results[key]
    del results["items"]["validation"]
    (folder / "results.json").write_text(json.dumps(results))
    evaluate(folder, Console(width=200))
    said = capsys.readouterr().out
    assert "to the last digit (but for " in said
    assert all(name in said for name in ("model_choice", "health", "items: validation"))
    results["items"]["color"] = 3
    results["baselines"]["itq"]["map"] += 1e-15
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError) as caught:
        evaluate(folder, Console(quiet=True))
    assert "items: color is gone" in str(caught.value)
    assert "baselines: itq: map " in str(caught.value)


@pytest.mark.slow
def test_rows_that_are_not_computed_any_more_are_named(undisturbed, tmp_path, capsys):
    """A version before ranked by vectors of any length, under other names; an unknown row is a difference."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.run.run_dir, folder)
    results = results_of(undisturbed)
    rows = results["baselines"]
    rows["random hyperplanes"], rows["PCA + random rotation"] = (
        rows.pop("itq"),
        rows["pca-rotation"],
    )
    del results["float_rankings"]["product quantizer, same bytes"]
    (folder / "results.json").write_text(json.dumps(results))
    evaluate(folder, Console(width=200))
    said = capsys.readouterr().out
    assert "to the last digit (but for " in said and "baselines: itq" in said
    assert "random hyperplanes and PCA + random rotation are rows of an older version" in said
    rows["made up"] = rows["pca-rotation"]
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match="baselines: made up is gone"):
        evaluate(folder, Console(quiet=True))


def test_results_and_report(undisturbed):
    results = json.loads((undisturbed.run.run_dir / "results.json").read_text())
    promised = (
        "map map_best_ties map_worst_ties precision_at_radius_2 bit_balance quantization_error "
        "bits seed split_sha256 objective seconds hardware versions "
        "model_choice leaks collapsed_at_step health flip_rate"
    )
    assert set(promised.split()) <= set(results)
    assert results["map_worst_ties"] <= results["map"] <= results["map_best_ties"]
    assert results["leaks"] == [] and results["collapsed_at_step"] is None
    assert results["model_choice"]["step"] == 24 and 0 < results["flip_rate"] < 1
    assert set(results["baselines"]) == {"pca-rotation", "itq"}
    drawn = {path.name for path in (undisturbed.run.run_dir / "report").iterdir()}
    plots = ("losses", "code_values", "precision_recall", "neighbours")
    files = {f"{name}{suffix}" for name in plots for suffix in (".png", ".svg")}
    assert drawn == files | {"code_values.json", "neighbours.json", "report.html"}


def test_the_page_is_that_of_the_finished_run(undisturbed, tmp_path, console):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.run.run_dir, folder, ignore=shutil.ignore_patterns("cache"))
    written = (folder / "report" / "report.html").read_text()
    assert_stands_alone(Page(written))
    report_run(folder, console, html=tmp_path / "page.html")
    again = (tmp_path / "page.html").read_text()
    assert again == written
    (folder / "report" / "report.html").unlink()
    run.train(undisturbed.replace(run_dir=folder), console)  # finished: nothing is left to do
    assert not (folder / "report" / "report.html").exists()


@pytest.mark.slow
def test_a_run_whose_records_are_gone_is_evaluated_without_them(undisturbed, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.run.run_dir, folder, ignore=shutil.ignore_patterns("cache"))
    (folder / "metrics.jsonl").unlink()
    evaluate(folder, Console(width=200))
    said = capsys.readouterr().out
    assert "24 of 24 steps have no record" in said and "to the last digit" in said
    (folder / "metrics.jsonl").write_text("null\n")
    with pytest.raises(UserError, match="metrics.jsonl is damaged .line 1 .*; put .* or remove"):
        evaluate(folder, Console(quiet=True))


def test_a_run_with_fewer_records_has_the_same_results(undisturbed, tmp_path, capsys):
    thinned = config(tmp_path / "run", log_every=4)
    run.train(thinned, Console())
    steps = [record["step"] for record in read_metrics(thinned.run.run_dir / "metrics.jsonl")]
    assert (
        steps[:4] == [1, 4, 5, 8] and len(steps) < results_of(undisturbed)["model_choice"]["step"]
    )
    assert results_of(thinned)["map"] == results_of(undisturbed)["map"]
    capsys.readouterr()
    evaluate(thinned.run.run_dir)
    assert "every number equals" in (printed := capsys.readouterr().out)
    assert "have no record" not in printed
