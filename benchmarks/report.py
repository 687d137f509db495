"""How large the HTML report of many photographs is, and how quickly Chromium opens it.

Captions of a few photographs are repeated, each time under another name, until there are as many as asked for. Opening
is measured from the request to the moment at which the first photograph is decoded and the page can be searched, in a
new browser context each time; ordering and searching to the moment at which the list has been made anew.

    python benchmarks/report.py --counts 3000
    python benchmarks/report.py --counts 100,250,500,1000 --inside     # where one file stays handy

Needs Debian's chromium and the package playwright.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from common import add_photographs, fail, finish, machine, peak_memory_mib, positive, reset_peak_memory, table
from playwright.sync_api import Browser, Page, sync_playwright

import captionlens
from captionlens import Caption
from captionlens.outputs.html_report import open_report

_READY = """() => { const image = document.querySelector('.entry img');
    return image?.complete && image.naturalWidth > 0 && document.querySelector('.found').textContent !== ''; }"""
# The list is made anew before `change` has been dispatched; the layout that follows is forced.
_ORDER = """(order) => { const select = document.querySelector('[name=order]'), begin = performance.now();
    select.value = order; select.dispatchEvent(new Event('change', { bubbles: true }));
    document.body.getBoundingClientRect(); return performance.now() - begin; }"""
_SEARCH = """(text) => { const form = document.querySelector('.selection'), begin = performance.now();
    form.elements.text.value = text; form.dispatchEvent(new Event('change', { bubbles: true }));
    document.body.getBoundingClientRect(); return performance.now() - begin; }"""


def main() -> None:
    parser = argparse.ArgumentParser(description="The HTML report of many photographs.")
    add_photographs(parser)
    parser.add_argument("--counts", default="3000", help="of photographs, with commas (default: 3000)")
    parser.add_argument("--captioned", type=positive, default=100, help="photographs that are repeated (default: 100)")
    parser.add_argument("--inside", action="store_true", help="photographs inside the page, however many")
    parser.add_argument("--repeats", type=positive, default=5, help="measurements of each (default: 5)")
    options = parser.parse_args()

    counts = [positive(count) for count in options.counts.split(",")]
    found = sorted(options.photographs.glob("*.jpg"))[: options.captioned]
    if not found:
        fail(f"--photographs {options.photographs}: has no .jpg files")
    captions = list(captionlens.load().caption_many(found))
    chromium = shutil.which("chromium")
    if chromium is None:
        fail("needs chromium (Debian's package of that name)")
    results = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for count in counts:
            path = Path(scratch) / str(count) / "report.html"
            path.parent.mkdir()
            written = write(path, repeated(captions, count), 0 if options.inside else count)
            results.append({"photographs": count, **written, **measured(browser, path, options.repeats)})
            shutil.rmtree(path.parent)
        browser.close()
    names = list(results[0])
    print(table(names, [[result[name] for name in names] for result in results]))
    finish({"benchmark": "report", "machine": machine(), "inside": options.inside, "reports": results})


def repeated(captions: Sequence[Caption], count: int) -> Iterator[Caption]:
    """Captions, a hundred a folder, each with a path of its own."""
    for number, caption in zip(range(count), itertools.cycle(captions), strict=False):
        yield replace(caption, path=f"photographs/{number // 100:04d}/{number:06d}.jpg")


def write(path: Path, captions: Iterable[Caption], expected: int) -> dict[str, Any]:
    """Write a report; the time a photograph, the sizes and the memory that it took."""
    reset_peak_memory()
    before = peak_memory_mib()
    begin = time.perf_counter()
    count = 0
    with open_report(path, expected=expected, model="captionlens-base") as report:
        for caption in captions:
            report.write(caption)
            count += 1
    elapsed = time.perf_counter() - begin
    beside = [file.stat().st_size for file in path.parent.rglob("*.jpg")]
    return {
        "page_mb": path.stat().st_size / 1e6,
        "beside_mb": sum(beside) / 1e6,
        "write_ms_each": elapsed / count * 1000,
        "memory_mib": peak_memory_mib() - before,
    }


def measured(browser: Browser, path: Path, repeats: int) -> dict[str, float]:
    """Medians in seconds, after one round that does not count."""
    rounds = [one_visit(browser, path) for _ in range(1 + repeats)][1:]
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def one_visit(browser: Browser, path: Path) -> dict[str, float]:
    """Open the page, order and search it."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page: Page = context.new_page()
    begin = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_function(_READY)
    opened = time.perf_counter() - begin
    ordered = page.evaluate(_ORDER, "least") / 1000
    searched = page.evaluate(_SEARCH, "dog 7") / 1000
    context.close()
    return {"open_s": opened, "order_s": ordered, "search_s": searched}


if __name__ == "__main__":
    main()
