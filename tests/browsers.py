"""A headless Chromium for the tests of pages."""

import shutil
import time

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def start(profile):
    """A driver with a new profile folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1200,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=DRIVER)
    )
    driver.set_page_load_timeout(60)
    return driver


def wait_for(browser, script, seconds=60):
    """Until the page's JavaScript gives something true; returns it."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        if found := browser.execute_script(f"return {script}"):
            return found
        time.sleep(0.3)
    raise AssertionError(f"{script} stayed false on {browser.current_url}")
