"""Every page in a real browser: at 1280 px and on a phone, light and dark.

Nothing scrolls sideways, nothing is cut off, no two texts lie on each other, and every text can be
told from its ground.
"""

from page_samples import PAGES

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
PROBLEMS = """
document.querySelectorAll("details").forEach(d => d.open = true);
const found = [], page = document.scrollingElement;
if (page.scrollWidth > innerWidth) found.push(`page is ${page.scrollWidth} of ${innerWidth} wide`);
const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; node = walker.nextNode();) {
  if (!node.data.trim() || node.parentElement.closest("style, script, title")) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  for (const r of range.getClientRects())
    if (r.width > 0.5 && r.height > 0.5)
      texts.push({node, r, y: r.top + scrollY, told: node.data.trim().slice(0, 40)});
}
const inside = (r, box) => r.left >= box.left - 1 && r.right <= box.right + 1 &&
  r.top >= box.top - 1 && r.bottom <= box.bottom + 1;
const channels = colour => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 :
  ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const c = channels(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
for (const {node, r, told} of texts) {
  if (r.left < -1 || r.right > innerWidth + 1) found.push(`beyond the window: ${told}`);
  for (let e = node.parentElement; e; e = e.parentElement) {
    const style = getComputedStyle(e), cuts = e.tagName === "svg" ||
      [style.overflowX, style.overflowY].some(o => o !== "visible" && o !== "");
    if (cuts && e !== page && e !== document.body && !inside(r, e.getBoundingClientRect()))
      found.push(`cut by <${e.tagName.toLowerCase()} class="${e.getAttribute("class")}">: ${told}`);
  }
  const style = getComputedStyle(node.parentElement), svg = node.parentElement.closest("svg");
  const [a, b] = [channels(svg ? style.fill : style.color), ground(node.parentElement)].map(light);
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(1)}: ${told}`);
}
texts.sort((a, b) => a.y - b.y);
texts.forEach((one, i) => {
  for (let j = i + 1; j < texts.length && texts[j].y < one.y + one.r.height - 2; j++) {
    const other = texts[j];
    if (other.node === one.node) continue;
    const wide = Math.min(one.r.right, other.r.right) - Math.max(one.r.left, other.r.left);
    if (wide > 2) found.push(`"${one.told}" lies on "${other.told}"`);
  }
});
for (const e of document.querySelectorAll("table, img, svg, figure, pre")) {
  const r = e.getBoundingClientRect();
  if (r.width && (r.left < -1 || r.right > innerWidth + 1))
    found.push(`<${e.tagName.toLowerCase()}> ends at ${r.right} of ${innerWidth}`);
}
const small = [...document.querySelectorAll("svg text")].filter(e =>
  e.getBoundingClientRect().height && e.getBoundingClientRect().height < 9).length;
if (small) found.push(`${small} texts of charts are too small to read`);
return {found: [...new Set(found)].slice(0, 12), texts: texts.length};
"""


def show(browser, url, width, scheme):
    """Open a page on a window so wide that prefers `scheme`."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(url)


def test_every_page_fits_and_can_be_read(browser, tmp_path):
    problems = {}
    for name, make in PAGES.items():
        file = tmp_path / f"{name}.html"
        file.write_text(make(), encoding="utf-8")
        for width in WIDTHS:
            for scheme in SCHEMES:
                show(browser, file.as_uri(), width, scheme)
                result = browser.execute_script(PROBLEMS)
                assert result["texts"] > 40, name
                if result["found"]:
                    problems[f"{name}, {width} px, {scheme}"] = result["found"]
    assert problems == {}


BROKEN = {
    "page is": '<div style="width: 2000px">x</div>',
    "cut by": '<div style="width: 40px; overflow: hidden; white-space: nowrap">a long text</div>',
    "lies on": '<p style="margin: 0">one</p><p style="margin: -1.2em 0 0">two</p>',
    "contrast": '<p style="color: #999; background: #fff">pale</p>',
    "too small": '<svg viewBox="0 0 900 40" width="90"><text y="9" font-size="9">x</text></svg>',
}


def test_the_checks_find_what_they_look_for(browser, tmp_path):
    for told, body in BROKEN.items():
        file = tmp_path / "broken.html"
        file.write_text(f"<!doctype html><meta name=viewport content='width=device-width'>{body}")
        show(browser, file.as_uri(), 390, "light")
        found = browser.execute_script(PROBLEMS)["found"]
        assert any(told in problem for problem in found), (told, found)
