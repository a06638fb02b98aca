"""Looks at every page of the built site in a browser: light, dark, and as wide as a phone.

    make docs
    pip install playwright && playwright install chromium
    python docs/look.py [PAGE ...] [--site out/site] [--browser PATH] [--pictures FOLDER]

Of each page it reports: what is wider than the window, tables that are cut, formulas that are not
typeset, errors in the console, and requests to a network. It opens the files without a server, and
tries the search. --browser names a Chromium that is installed already. The exit code is the number
of pages with a finding, at most 1.
"""

import argparse
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

MODES = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
# Runs in the page. What reaches beyond the window must be within something that scrolls.
LOOK = """(width) => {
  const scrolls = (node) => {
    for (; node && node !== document.body; node = node.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(node).overflowX)) return true;
    return false;
  };
  const beyond = (node) => {
    const box = node.getBoundingClientRect();
    return box.width > 0 && (box.right > width + 1 || box.left < -1) && !scrolls(node);
  };
  const found = [];
  if (document.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
  // KaTeX hides a second form of each formula, for readers aloud.
  for (const node of document.querySelectorAll(".md-content *"))
    if (!node.closest(".katex-mathml") && beyond(node))
      found.push(`${node.tagName} is cut: ${node.textContent.slice(0, 40)}`);
  for (const node of document.querySelectorAll(".arithmatex"))
    if (!node.querySelector(".katex") || node.querySelector(".katex-error"))
      found.push(`a formula is not typeset: ${node.textContent.slice(0, 40)}`);
  return found.slice(0, 5);
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="*", help="files of the site, by default all")
    parser.add_argument("--site", type=Path, default=Path("out/site"))
    parser.add_argument("--browser", help="the file of a Chromium that is installed already")
    parser.add_argument("--pictures", type=Path, help="a folder for a picture of each page")
    options = parser.parse_args()
    site = options.site.resolve()
    pages = options.pages
    if not pages:
        paths = (path.relative_to(site).as_posix() for path in site.rglob("*.html"))
        # Without a server nobody sees the page that a server shows for a wrong address.
        pages = sorted(path for path in paths if path != "404.html")
    findings = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        for mode, settings in MODES.items():
            context = browser.new_context(**settings)
            for name in pages:
                found = look_at(context, site / name, picture_of(options.pictures, mode, name))
                findings += bool(found)
                for sentence in found:
                    print(f"{name}, {mode}: {sentence}")
            context.close()
        findings += not search_works(browser, site / "index.html")
        browser.close()
    print(f"{len(pages)} pages in {len(MODES)} modes: {findings} with a finding")
    return min(findings, 1)


def look_at(context, path: Path, picture: Path | None) -> list[str]:
    """What is wrong with a page, as sentences."""
    page = context.new_page()
    found: list[str] = []
    page.on("console", lambda message: found.append(f"the console says: {message.text}"))
    page.on("pageerror", lambda error: found.append(f"an error of the page: {error}"))
    page.on("request", lambda request: found.extend(_network(request.url)))
    page.on("requestfailed", lambda request: found.append(f"is missing: {request.url}"))
    page.goto(path.as_uri())
    page.wait_for_timeout(300)
    found += page.evaluate(LOOK, page.viewport_size["width"])
    if picture is not None:
        page.screenshot(path=picture, full_page=True)
    page.close()
    return found


def search_works(browser, path: Path) -> bool:
    """Whether the search, without a server, finds a word that some page has."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    page.click(".md-search__input")
    page.keyboard.type("Rosenbrock")
    page.wait_for_selector(".md-search-result__item", timeout=60_000)
    results = len(page.query_selector_all(".md-search-result__item"))
    page.close()
    print(f"the search finds {results} pages with 'Rosenbrock'")
    return results > 0


def picture_of(folder: Path | None, mode: str, name: str) -> Path | None:
    """The file for the picture of a page."""
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{mode}_{name.replace('/', '_')}.png"


def _network(url):
    if url.startswith(("file:", "data:", "blob:")):
        return []
    return [f"asks the network for {url}"]


if __name__ == "__main__":
    sys.exit(main())
