"""The report in a real browser: it shows its pictures and words, fits a phone, opens its details
and loads nothing else.

One start of a headless Chromium opens a page that holds the report in frames, of a phone's and of a
desk's width, and beside it the same report with faults put in, which the same checks must find."""

import html
import json
import os
import re
import shutil
import subprocess

import pytest

from jaxgen import report
from jaxgen.training.logging import write_png
from tests.report.values import SCORES, results, score, system
from tests.support import images

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NAMES = ["KL × 0.25", "VAE-GAN with a name so long that it must wrap", "DDIM 50 steps"]

# What a reader would see, found out inside the page. Every finding is a list of what is wrong, or a
# number.
CHECKS = r"""
function examine(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  const root = page.documentElement, found = {};
  const all = selector => [...page.querySelectorAll(selector)];
  const said = e => (e.textContent || e.alt || "").trim().slice(0, 30);
  const name = e => [e.tagName, e.className, said(e)].join(" ");
  page.querySelector("summary").click();
  found.open = page.querySelector("details").open && page.querySelector(".all").offsetHeight > 100;
  found.pictures = all("img").length;
  const whole = e => e.complete && e.naturalWidth > 0 && e.offsetWidth > 40;
  found.broken = all("img").filter(e => !whole(e)).map(name);
  found.overflow = root.scrollWidth - root.clientWidth;
  found.wide = all("body *").filter(e => !e.closest(".scroll > *")
    && e.getBoundingClientRect().right > root.clientWidth + 1).map(name);
  const rows = table => all(`table.${table} tbody tr:not(.group)`).length;
  found.rows = {scores: rows("scores"), all: rows("all"), runs: rows("runs")};
  found.columns = all("table.all thead th").length;
  found.headings = all("h1, h2").filter(e => e.offsetHeight > 0).map(e => e.textContent);
  const words = e => [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
  const written = all("body *").filter(words);
  found.small = written.filter(e => parseFloat(view.getComputedStyle(e).fontSize) < 11.9).map(name);
  found.unseen = written.filter(e => {
    const s = view.getComputedStyle(e), behind = view.getComputedStyle(page.body).backgroundColor;
    return e.offsetHeight == 0 || s.visibility != "visible" || s.opacity == 0 || s.color == behind;
  }).map(name);
  found.text = page.querySelector(".answer").innerText;
  found.size = all(".grids img").map(e => e.offsetWidth + "x" + e.offsetHeight);
  // scrolled to its end, a table still shows its first column
  found.loose = all(".scroll").map(box => {
    box.scrollLeft = 1e6;
    const first = box.querySelector("tbody tr:last-child th").getBoundingClientRect().left;
    return {scrolled: box.scrollLeft, shift: Math.abs(first - box.getBoundingClientRect().left)};
  });
  const loaded = view.performance.getEntriesByType("resource").map(e => e.name);
  found.loaded = loaded.filter(n => !n.startsWith("data:"));
  return found;
}
window.onload = () => {
  const found = {};
  try {
    for (const frame of document.querySelectorAll("iframe")) found[frame.id] = examine(frame);
  } catch (error) { found.error = String(error); }
  document.getElementById("found").textContent = JSON.stringify(found);
};
"""


def comparison():
    others = tuple(score(f"other_score_{i}", "quality", "higher", main=False) for i in range(5))
    systems = [
        system(
            name,
            0.1 * i,
            0.1 * i,
            0.1 * i,
            sure=0.1 * i,
            config="configs/digits/vae.py",
            parameters=10**6,
            nfe=1,
            sampler={"steps": 50},
            training={"steps": 10, "seconds": 70.0, "images": 640},
            cost={"sampling_flops_per_image": 4e6, "sampling_memory_bytes": 10**7},
            grid="grid.png",
        )
        for i, name in enumerate(NAMES, 1)
    ]
    return results(
        *systems,
        scores=(*SCORES, *others),
        question="Does it open?",
        command="jaxgen compare --workdir=" + "a_long_folder_name" * 8,
        machine={"device": "CPU"},
        protocol={
            "seeds": [0, 1, 2],
            "reference": "a word that has no place to break: " + "x" * 80,
        },
        requirements=("ms<=0.25",),
        reference_grid="grid.png",
    )


def open_in_browser(folder, frames):
    """What the checks find in frames {id: (file, width)} of files in `folder`, and what the browser
    complained about.
    """
    holders = "".join(
        f'<iframe id="{i}" src="{file}" width="{w}" height="900"></iframe>'
        for i, (file, w) in frames.items()
    )
    wrapper = folder / "wrapper.html"
    style = "<style>iframe { border: 0; }</style>"
    wrapper.write_text(
        f'<!DOCTYPE html>{style}{holders}<pre id="found"></pre><script>{CHECKS}</script>',
        encoding="utf-8",
    )
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", wrapper.as_uri()], capture_output=True, text=True, timeout=60
    )
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text and text[1], f"the browser gave no findings: {done.stderr[-2000:]}"
    found = json.loads(html.unescape(text[1]))
    assert "error" not in found, found
    return found, re.findall(r"CONSOLE.*?\] (.*)", done.stderr)


@pytest.mark.slow
def test_the_report_in_a_browser(tmp_path):
    if BROWSER is None:
        assert not os.environ.get("JAXGEN_REQUIRE_BROWSER"), (
            "JAXGEN_REQUIRE_BROWSER is set and there is no Chromium"
        )
        pytest.skip("no Chromium: install the package chromium to test the report's page")
    write_png(str(tmp_path / "grid.png"), images(0, 16, 8, 8, 1))
    of = comparison()
    page = open(report.write(of, tmp_path), encoding="utf-8").read()
    faults = (
        '<p style="min-width: 2000px">wide</p><p style="font-size: 7px">small</p><p '
        'style="visibility: hidden">unseen</p>'
    )
    faults += (
        '<img alt="outside" src="grid.png"><img alt="broken" src="data:image/png;base64,AAAA">'
    )
    (tmp_path / "faulty.html").write_text(
        page.replace("</main>", f"{faults}</main>"), encoding="utf-8"
    )
    frames = {
        "phone": ("report.html", 390),
        "desk": ("report.html", 1280),
        "faulty": ("faulty.html", 390),
    }
    found, complaints = open_in_browser(tmp_path, frames)

    for frame in ("phone", "desk"):
        seen = found[frame]
        # grids, real images, trade-offs
        assert seen["pictures"] == 3 + 1 + 3 and seen["broken"] == []
        assert (
            seen["overflow"] == 0
            and seen["wide"] == []
            and seen["small"] == []
            and seen["unseen"] == []
        )
        assert seen["open"] and seen["loaded"] == [] and len(set(seen["size"])) == 1
        assert seen["rows"] == {"scores": len(NAMES), "all": len(of.scores), "runs": len(NAMES)}
        assert seen["columns"] == len(NAMES) + 1
        headings = [
            "A <b>test</b>",
            "With these requirements",
            "Scores",
            "Samples",
            "Trade-offs",
            "Training and cost",
            "Protocol",
        ]
        assert seen["headings"] == [*headings, "Reproduce"]
        assert "KL × 0.25 is first" in seen["text"]
        assert all(table["shift"] < 2 for table in seen["loose"]) and len(seen["loose"]) == 3
    assert all(table["scrolled"] > 50 for table in found["phone"]["loose"])
    faulty = found["faulty"]
    assert faulty["overflow"] > 1000 and [text.split()[-1] for text in faulty["wide"]] == ["wide"]
    # the first by the page's own policy
    assert [text.split()[-1] for text in faulty["broken"]] == ["outside", "broken"]
    assert [text.split()[-1] for text in faulty["small"]] == ["small"]
    assert [text.split()[-1] for text in faulty["unseen"]] == ["unseen"]
    assert (
        len(complaints) == 1
        and "grid.png" in complaints[0]
        and "Content Security Policy" in complaints[0]
    )
