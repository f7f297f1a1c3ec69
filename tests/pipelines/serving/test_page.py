"""The endpoint's page in a real headless Chromium."""

import json
import subprocess

import pytest
from browsers import wait_for
from test_pages_in_a_browser import PROBLEMS, show

TEXT = "document.querySelector('{}').textContent"
FOUND = "document.querySelectorAll('#results li').length"


def told(browser, selector):
    return browser.execute_script(f"return {TEXT.format(selector)}")


def opened(browser, url):
    """The page, once it knows the model."""
    browser.get(url)
    wait_for(browser, TEXT.format("#about") + ".includes('momo-1')")


def severe(browser):
    return [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_a_caption_finds_pictures_by_keyboard_alone(endpoint, browser):
    from selenium.webdriver.common.keys import Keys

    _, url = endpoint
    opened(browser, url)
    wait_for(browser, "document.activeElement.id == 'text'")  # typing can begin
    browser.switch_to.active_element.send_keys("a red apple", Keys.ENTER)
    wait_for(browser, f"{FOUND} == 4")
    assert "a red apple" in told(browser, "#message")
    scores = browser.execute_script(
        "return [...document.querySelectorAll('.score')].map(e => parseFloat(e.textContent))"
    )
    assert scores == sorted(scores, reverse=True)
    for expected in ("choose", "search"):  # all that can be used is reached by Tab
        browser.switch_to.active_element.send_keys(Keys.TAB)
        assert browser.switch_to.active_element.get_attribute("id") == expected
    assert browser.execute_script("return document.querySelector('#seen').hidden")
    resources = browser.execute_script(
        "return performance.getEntriesByType('resource').map(r => r.name)"
    )
    assert all(name.startswith((url, "data:")) for name in resources)
    assert severe(browser) == []


def test_an_example_finds_a_picture_with_its_own_caption(endpoint, browser):
    """This model has learnt nothing, so it may be that no caption finds its picture; then only
    pictures are offered."""
    _, url = endpoint
    opened(browser, url)
    wait_for(browser, "!document.querySelector('#examples').hidden")
    offered = "document.querySelectorAll('#captions button')"
    for i in range(browser.execute_script(f"return {offered}.length")):
        caption = browser.execute_script(f"return {offered}[{i}].textContent")
        browser.execute_script(f"{offered}[{i}].click()")
        wait_for(browser, f"{TEXT.format('#message')}.includes(`“{caption}”`)")
        wait_for(browser, f"{FOUND} == 4")
        assert caption in told(browser, "#results")
    browser.execute_script("document.querySelector('#pictures button').click()")
    wait_for(browser, "!document.querySelector('#seen').hidden")
    assert severe(browser) == []


def test_a_picture_is_shown_seen_into_and_removed(endpoint, browser, noise, tmp_path):
    _, url = endpoint
    noise(1, 90, 60).save(tmp_path / "some.png")
    opened(browser, url)
    browser.find_element("id", "file").send_keys(str(tmp_path / "some.png"))
    wait_for(browser, f"{FOUND} == 4")
    wait_for(browser, "!document.querySelector('#seen').hidden")
    assert browser.execute_script("return document.querySelector('#preview').naturalWidth") == 90
    assert told(browser, "#picturename") == "some.png"
    assert "average" in told(browser, "#legend")
    assert "central square" in told(browser, "#explain")
    colours = (
        "(() => { const c = document.querySelector('#attention');"
        "const d = c.getContext('2d').getImageData(c.width / 4, 0, c.width / 2, c.height).data;"
        "return d.filter((v, i) => i % 4 == 0 && v != d[i + 2]).length })()"
    )
    heated = browser.execute_script(f"return {colours}")
    browser.find_element("id", "heat").click()
    assert browser.execute_script(f"return {colours}") != heated
    browser.find_element("id", "text").send_keys("a tree")
    browser.find_element("id", "search").click()
    wait_for(browser, TEXT.format("#message") + ".includes('together')")
    browser.find_element("id", "remove").click()  # what follows is a text again, no pair
    wait_for(browser, TEXT.format("#message") + ".includes('nearest to “a tree”')")
    assert browser.execute_script("return document.querySelector('#given').hidden")
    assert browser.execute_script("return document.querySelector('#seen').hidden")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    browser.find_element("id", "file").send_keys(str(tmp_path / "broken.png"))
    wait_for(browser, "document.querySelector('#message').className == 'bad'")
    assert "none of PNG" in told(browser, "#message")
    assert browser.execute_script(f"return {FOUND}") == 0


@pytest.mark.parametrize("width", [390, 768, 1280, 1600])
def test_both_pages_fit_and_can_be_read(endpoint, browser, noise, tmp_path, width):
    _, url = endpoint
    noise(1, 90, 60).save(tmp_path / "a-name-that-is-long-for-a-narrow-window.png")
    problems = {}
    for scheme in ("light", "dark"):
        show(browser, url, width, scheme)
        wait_for(browser, "!document.querySelector('#examples').hidden")
        browser.find_element("id", "file").send_keys(str(next(tmp_path.glob("a-*.png"))))
        wait_for(browser, "!document.querySelector('#seen').hidden")
        wait_for(browser, "document.getAnimations().every(a => a.playState == 'finished')")
        browser.execute_script("document.querySelector('label.hidden').remove()")
        problems[scheme] = browser.execute_script(PROBLEMS)["found"]
        show(browser, url + "/docs", width, scheme)
        wait_for(browser, "document.querySelectorAll('.call').length > 6")
        problems[f"docs, {scheme}"] = browser.execute_script(PROBLEMS)["found"]
    assert not any(problems.values()), problems


def test_the_documents_examples_run_as_they_stand(endpoint, browser, noise, tmp_path):
    """With the host that the browser is at."""
    _, url = endpoint
    noise(1).save(tmp_path / "apple.png")
    browser.get(url + "/docs")
    wait_for(browser, "document.querySelectorAll('.call').length > 6")
    text = told(browser, "#calls")
    assert "POST /v1/embeddings" in text
    assert "GET /v1/index" in text
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.example pre')].map(e => e.textContent)"
    )
    commands = [example for example in shown if "curl" in example]
    assert len(commands) >= 4
    assert any("data:image/png;base64" in command for command in commands)
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        answer = json.loads(done.stdout)
        assert answer.get("data") or answer.get("results"), (command, done.stdout)
    (python,) = [example for example in shown if "from openai" in example]
    assert f'base_url="{url}/v1"' in python
    assert severe(browser) == []


def test_a_key_is_asked_for_in_words(endpoint, browser):
    """As with --keys, whose endpoint answers 401."""
    _, url = endpoint
    browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {
            "source": "const real = window.fetch; window.fetch = (path, options) =>"
            "options.headers.Authorization == 'Bearer right' ? real(path, options) :"
            'Promise.resolve(new Response(\'{"error": {"message": "raw"}}\', {status: 401}))'
        },
    )
    browser.get(url)
    wait_for(browser, "!document.querySelector('#unlock').hidden")
    assert browser.execute_script("return document.activeElement.id") == "key"
    assert browser.execute_script("return document.querySelector('#ask').hidden")
    assert told(browser, "#keymessage") == ""
    browser.find_element("id", "key").send_keys("wrong\n")
    wait_for(browser, TEXT.format("#keymessage") + ".includes('complete')")
    browser.find_element("id", "key").clear()
    browser.find_element("id", "key").send_keys("right\n")
    wait_for(browser, "document.querySelector('#unlock').hidden")
    wait_for(browser, "!document.querySelector('#ask').hidden")
    browser.refresh()  # the tab keeps it
    wait_for(browser, TEXT.format("#about") + ".includes('momo-1')")
    assert browser.execute_script("return document.querySelector('#unlock').hidden")
