// Opens a page in a browser as people do, and prints what is there as JSON:
// node browse.mjs CHROMIUM PAGE BIG-PAGE
import { createRequire } from "node:module";

const { chromium } = createRequire(process.cwd() + "/")("playwright-core");
const [executablePath, file, big] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const seen = { requests: [], errors: [], background: {}, overflow: {} };

async function open(path, options) {
  const page = await browser.newPage(options);
  page.on("request", (r) => seen.requests.push(r.url()));
  page.on("pageerror", (e) => seen.errors.push(String(e)));
  await page.goto("file://" + path);
  return page;
}
const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

for (const colorScheme of ["light", "dark"]) {
  for (const width of [480, 1400]) {
    const page = await open(file, { colorScheme, viewport: { width, height: 900 } });
    seen.background[colorScheme] = await background(page);
    seen.overflow[width] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await page.close();
  }
}

const page = await open(file, { colorScheme: "light", viewport: { width: 1400, height: 900 } });
// Of each line, what a person sees: the cells' text, and their classes.
seen.grid = await page.evaluate(() =>
  [...document.querySelectorAll(".grid summary > .line, .grid tr")].map((line) =>
    [...line.children].map((c, i) => (i ? c.className + " " : "") + c.textContent).join(" | ")));

// By keyboard: the first thing of the grid that takes the focus folds.
await page.focus(".grid");
await page.keyboard.press("Tab");
seen.focused = await page.evaluate(() => document.activeElement.textContent);
seen.outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
const open1 = () => page.evaluate(() => document.querySelector(".grid details").open);
seen.folds = [await open1()];
for (const key of ["Enter", "Enter"]) {
  await page.keyboard.press(key);
  seen.folds.push(await open1());
}

// From the cell to the text.
seen.textBefore = await page.isVisible("#t1 pre");
await page.click('.grid a[href="#t1"]');
seen.textAfter = await page.isVisible("#t1 pre");
seen.text = await page.textContent("#t1 pre");

await page.click("#theme");
seen.toggled = await background(page);
await page.emulateMedia({ media: "print" });
seen.printed = await background(page);
await page.close();

// What the page costs is counted in the processor time of its thread, which
// does not depend on what else the machine does.
const large = await browser.newPage({ viewport: { width: 1400, height: 900 } });
const cdp = await large.context().newCDPSession(large);
await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
await large.goto("file://" + big);
await large.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
const { metrics } = await cdp.send("Performance.getMetrics");
seen.opened = Math.round(1000 * metrics.find((m) => m.name === "TaskDuration").value);
seen.rows = await large.evaluate(() => document.querySelectorAll(".grid tr").length);
await browser.close();
console.log(JSON.stringify(seen));
