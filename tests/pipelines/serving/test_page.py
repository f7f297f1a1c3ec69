"""The endpoint's page in a real headless Chromium."""

from browsers import wait_for


def results(browser):
    return browser.execute_script("return document.querySelectorAll('#results li').length")


def test_a_caption_finds_pictures_by_keyboard_alone(endpoint, browser):
    from selenium.webdriver.common.keys import Keys

    _, url = endpoint
    browser.get(url)
    wait_for(browser, "document.querySelector('#about').textContent.includes('momo-1')")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys("a red apple", Keys.ENTER)
    wait_for(browser, "document.querySelectorAll('#results li').length == 4")
    first = browser.execute_script("return document.querySelector('#results li').textContent")
    assert first[:2] in ("0.", "-0", "1.")
    for expected in ("BUTTON", "DIV", "SUMMARY"):  # all that can be used is reached by Tab
        browser.switch_to.active_element.send_keys(Keys.TAB)
        assert browser.switch_to.active_element.tag_name.upper() == expected
    assert browser.execute_script("return document.querySelector('#seen').hidden")
    resources = browser.execute_script(
        "return performance.getEntriesByType('resource').map(r => r.name)"
    )
    assert all(name.startswith(url) for name in resources)
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_a_picture_shows_where_the_model_looks(endpoint, browser, noise, tmp_path):
    _, url = endpoint
    noise(1, 90, 60).save(tmp_path / "some.png")
    browser.get(url)
    browser.find_element("id", "file").send_keys(str(tmp_path / "some.png"))
    wait_for(browser, "document.querySelectorAll('#results li').length == 4")
    wait_for(browser, "!document.querySelector('#seen').hidden")
    shades = browser.execute_script(
        "const c = document.querySelector('#attention');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return new Set(d).size"
    )
    assert shades > 50
    (tmp_path / "broken.png").write_bytes(b"no picture")
    browser.find_element("id", "file").send_keys(str(tmp_path / "broken.png"))
    wait_for(browser, "document.querySelector('#message').className == 'bad'")
    told = browser.execute_script("return document.querySelector('#message').textContent")
    assert "none of PNG" in told
    assert results(browser) == 0


def test_the_document_for_people_lists_every_call(endpoint, browser):
    _, url = endpoint
    browser.get(url + "/docs")
    wait_for(browser, "document.querySelectorAll('#calls tr').length >= 8")
    text = browser.execute_script("return document.querySelector('#calls').textContent")
    assert "POST /v1/embeddings" in text
