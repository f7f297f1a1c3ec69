"""The sweep's pages in a real headless Chromium, with a real small sweep behind them."""

import dataclasses
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from browsers import wait_for

from momo_platform.stages import UserError
from momo_platform.sweeps.dashboard import DashboardOptions, chosen, serve


def test_the_report_shows_rows_curves_and_the_best_command(finished, browser):
    _, _, page = finished
    browser.get(page.as_uri())
    rows = wait_for(browser, "document.querySelectorAll('#trials tbody tr').length")
    assert rows == 6
    first = browser.execute_script("return document.querySelector('#trials tbody tr').textContent")
    assert "quality=0.8" in first
    assert browser.execute_script("return document.querySelector('#command').textContent") == (
        "run --quality 0.8"
    )
    for part, shape in (
        ("#curves", "polyline"),
        ("#parallel", "polyline"),
        ("#importance", "rect"),
    ):
        drawn = browser.execute_script(
            f"return [...document.querySelectorAll('{part} {shape}')]"
            ".map(e => e.getBoundingClientRect()).filter(r => r.width + r.height > 0).length"
        )
        assert drawn >= {"#importance": 2}.get(part, 6), part
    loaded = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert loaded == 0  # self-contained
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_the_dashboards_pages_load_with_the_sweeps_rows(finished, browser):
    folder, _, _ = finished
    with serve(DashboardOptions(storage=str(folder / "runs"), port=18090)) as links:
        by_name = {link.name: link for link in links}
        browser.get(links[0].url)
        assert "pages" in browser.title
        shown = "document.querySelector('#sweep-pages').textContent"
        assert "6 of 6 trials done" in wait_for(browser, shown)
        assert "score 0.805 (" in wait_for(browser, shown)
        drawn = "document.querySelectorAll('#sweep-pages .charts circle').length"
        assert wait_for(browser, drawn) == 6  # the metric by trial
        browser.execute_script("document.getElementById('state').textContent = 'old'")
        wait_for(browser, f"!!document.querySelector('#sweep-pages') && {shown}.includes('ended')")
        (seen,) = json.load(urllib.request.urlopen(f"{links[0].url}state.json"))["sweeps"]
        assert (seen["state"], seen["done"], seen["left"]) == ("ended", 6, "")
        for path in ("sweeps/pages/results.json", "sweeps/pages/report/../results.json", "toy/"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(links[0].url + path)
        report = urllib.request.urlopen(f"{links[0].url}sweeps/pages/report/index.html").read()
        assert b"Sweep pages" in report
        browser.execute_script("document.querySelector('#links a').click()")
        wait_for(browser, "document.querySelectorAll('#trials tbody tr').length == 6")

        browser.get(by_name["Optuna"].url)
        wait_for(browser, "document.body.innerText.includes('pages')")
        api = by_name["Optuna"].url + "api/studies"
        studies = json.load(urllib.request.urlopen(api))["study_summaries"]
        assert [s["study_name"] for s in studies] == ["pages"]
        number = studies[0]["study_id"]
        browser.get(f"{by_name['Optuna'].url}dashboard/studies/{number}/trials")
        wait_for(browser, "document.body.innerText.includes('6 Trials')")

        board = by_name["TensorBoard"].url
        deadline = time.time() + 30
        while time.time() < deadline:
            tags = json.load(urllib.request.urlopen(f"{board}data/plugin/scalars/tags"))
            if any("loss/toy" in of_run for of_run in tags.values()):
                break
            time.sleep(0.5)
        assert any("loss/toy" in of_run for of_run in tags.values()), tags
        browser.get(board)
        wait_for(browser, "!!document.querySelector('tb-webapp')")
        assert "not logged in" in by_name["Weights & Biases"].told
        processes = [link.url for link in links if link.url]
    for url in processes:  # nothing stays behind
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=2)


def test_no_sweep_and_an_unknown_one_are_told(tmp_path, finished):
    with pytest.raises(UserError, match="no sweeps yet"):
        chosen(DashboardOptions(storage=str(tmp_path)))
    folder, _, _ = finished
    options = DashboardOptions(sweep="pgaes", storage=str(folder / "runs"))
    with pytest.raises(UserError, match="--sweep pgaes: none of pages"):
        chosen(options)
    assert chosen(dataclasses.replace(options, sweep="")).name == "pages"


@pytest.mark.parametrize("port", [-5, 80, 65_535])
def test_a_port_that_is_none_is_told(finished, port):
    options = DashboardOptions(storage=str(finished[0] / "runs"), port=port)
    with pytest.raises(UserError, match=f"--port {port}: give 1024 to"), serve(options):
        pass


def test_a_terminated_dashboard_leaves_no_server(finished):
    process = subprocess.Popen(
        [sys.executable, "-m", "momo_platform.sweeps.dashboard", "--port", "18200"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=finished[0],
    )
    urls = []
    for line in process.stdout:
        urls += [word for word in line.split() if word.startswith("http://127.0.0.1")]
        if "Ctrl-C ends all" in line:
            break
    assert len(urls) >= 3
    process.terminate()
    assert process.wait(timeout=60) == 0
    for url in urls:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=2)


def test_the_dashboard_is_a_command(finished):
    done = subprocess.run(
        [sys.executable, "-m", "momo_platform.sweeps.dashboard", "--sweep", "none"],
        capture_output=True,
        text=True,
        cwd=finished[0],
        timeout=100,
    )
    assert done.returncode == 2
    assert "error: --sweep none: none of pages" in done.stderr
