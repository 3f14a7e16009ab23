// The live page's script without a browser: what is read, rates, and what is kept.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import test from "node:test";

const page = readFileSync(new URL("../../../envoy/status/index.html", import.meta.url), "utf8");
const inside = (element) => new RegExp(`<${element}>([^]*?)</${element}>`).exec(page)[1];
const names = "read, readSurge, Rates, Past, momentOf, rowsOf, written, MOST_MOMENTS";
const { read, readSurge, Rates, Past, momentOf, rowsOf, written, MOST_MOMENTS } = new Function(
  `${inside("script")}; return { ${names} };`,
)();

const stat = (labels, metric, value) => {
  const prefix = Object.entries(labels).map(([label, text]) => `${label}=.=${text};.;`);
  return { name: `wasmcustom.${prefix.join("")}tidegate_${metric}`, value };
};

test("the policy allows this style and this script, and nothing else", () => {
  for (const element of ["style", "script"]) {
    const hash = createHash("sha256").update(inside(element)).digest("base64");
    assert.ok(page.includes(`${element}-src 'sha256-${hash}'`), `write ${element}-src 'sha256-${hash}'`);
  }
  assert.ok(page.includes("content=\"default-src 'none'; connect-src 'self'; "));
  assert.ok(!page.includes("unsafe-"));
});

test("the page names no address of anywhere else", () => {
  assert.deepEqual(page.match(/\w+:\/\/|\s(src|srcset|action)=|@import|url\(/g), null);
  const links = [...page.matchAll(/\shref="([^"]*)"/g)].map(([, link]) => link);
  assert.deepEqual(links, ["data:,", "stats"]);
});

test("text becomes markup nowhere", () => {
  assert.deepEqual(page.match(/innerHTML|outerHTML|insertAdjacent|document\.write|\seval\(/g), null);
});

test("labels are taken out of the names, and the parts of a counter are added up", () => {
  const { rules, builds } = read({
    stats: [
      stat({ rule: "orders-db" }, "inflight", 40),
      stat({ rule: "orders-db", reason: "hold_full" }, "rejected_total", 3),
      stat({ rule: "orders-db", reason: "hot_caller" }, "rejected_total", 4),
      stat({ rule: "orders-db", kind: "store_failed" }, "faults_total", 0),
      stat({ rule: "tidegate_x" }, "inflight", 1),
      stat({ version: "0.1.0", commit: "abc" }, "build_info", 1),
      { name: "cluster.tidegate_other.upstream_cx_total", value: 9 },
      { histograms: { supported_quantiles: [50], computed_quantiles: [] } },
    ],
  });
  assert.deepEqual([...rules.keys()], ["orders-db", "tidegate_x"]);
  assert.deepEqual(Object.fromEntries(rules.get("orders-db")), {
    inflight: 40,
    rejected_total: 7,
    "rejected_total hold_full": 3,
    "rejected_total hot_caller": 4,
    faults_total: 0,
    "faults_total store_failed": 0,
  });
  assert.deepEqual([...builds], ["0.1.0 (abc)"]);
});

test("an answer of another form is no answer", () => {
  for (const answer of [null, {}, { stats: 1 }, { stats: [null] }]) {
    assert.throws(() => read(answer));
  }
});

test("a surge is a title and a row for each caller, and nothing where nothing was told", () => {
  assert.equal(readSurge(null), null);
  const { title, rows } = readSurge({
    event: "surge_started",
    at: "2026-01-09T15:00:02.100Z",
    spread: "one_caller",
    callers: [{ key: "10.0.0.7", rate_per_s: 1234.5, baseline_per_s: 4.2, share: 0.97 }],
  });
  assert.match(title, /9 Jan 2026.*: one caller$/);
  assert.deepEqual(rows, [["10.0.0.7", "1,235", "4.2", "97 %"]]);
  for (const answer of [{}, [], 1, "x", { callers: [null] }]) assert.throws(() => readSurge(answer));
});

test("a rate is over the last five seconds, however often it is seen", () => {
  const rates = new Rates();
  assert.ok(Number.isNaN(rates.perSecond("a_total")));
  for (let second = 0; second <= 1000; second++) {
    rates.see(second * 1000, new Map([["a_total", second < 990 ? 0 : (second - 990) * 7]]));
  }
  assert.equal(rates.perSecond("a_total"), 7);
  assert.equal(rates.perSecond("b_total"), 0);
  assert.ok(rates.length <= 6, `${rates.length} are kept`);
  // The machine slept, or the tab did.
  rates.see(1_100_000, new Map([["a_total", 70 + 200]]));
  rates.see(1_200_000, new Map([["a_total", 70 + 500]]));
  assert.equal(rates.perSecond("a_total"), 3);
});

test("another Envoy's counters do not make a negative rate", () => {
  const rates = new Rates();
  rates.see(0, new Map([["a_total", 100], ["inflight", 5]]));
  rates.see(1000, new Map([["a_total", 110], ["inflight", 4]]));
  assert.equal(rates.perSecond("a_total"), 10);
  rates.see(2000, new Map([["a_total", 3], ["inflight", 4]]));
  assert.ok(Number.isNaN(rates.perSecond("a_total")));
  rates.see(3000, new Map([["a_total", 8], ["inflight", 4]]));
  assert.equal(rates.perSecond("a_total"), 5);
});

test("the past has a bound, and a line has gaps where there was no answer", () => {
  const past = new Past();
  for (let second = 0; second < 10_000; second++) past.add({ at: second * 1000, arrivals: 1 });
  assert.equal(past.moments.length, MOST_MOMENTS);
  const short = new Past();
  short.add({ at: 0, arrivals: 0, phase: 1 });
  short.add({ at: 1000, arrivals: 50, phase: 3 });
  short.add({ at: 2000 });
  short.add({ at: 3000, arrivals: 100, phase: 1 });
  assert.equal(short.line("arrivals", 3000, 100), "M285.0 100.0L290.0 50.0M300.0 0.0");
  assert.equal(short.shade(3000), "M290.0 0H295.0V100H290.0Z");
  assert.equal(short.top(["arrivals", "baseline"]), 100);
  short.add({ at: 4000, arrivals: 101 });
  assert.equal(short.top(["arrivals", "baseline"]), 200);
  assert.equal(new Past().top(["arrivals"]), 1);
  const minutes = [0, 60_000, 60_001, 120_001, 900_000].map((now) => short.minutes(now));
  assert.deepEqual(minutes, [1, 1, 2, 5, 5]);
});

test("what is not known, or not limited, is no zero", () => {
  const numbers = new Map([
    ["phase", 0],
    ["baseline_per_s", 0],
    ["inflight_limit", 0],
    ["inflight", 0],
  ]);
  const rates = new Rates();
  rates.see(0, numbers);
  const moment = momentOf(0, numbers, rates);
  assert.ok([moment.baseline, moment.limit, moment.shed, moment.waiting].every(Number.isNaN));
  assert.equal(moment.inflight, 0);
  assert.equal(momentOf(0, new Map([...numbers, ["phase", 1]]), rates).baseline, 0);
});

test("what was shed is what was refused or redirected, or would have been", () => {
  const rates = new Rates();
  const numbers = (value) => new Map(
    ["rejected_total", "redirected_total", "shadow_rejected_total"].map((key) => [key, value]),
  );
  rates.see(0, numbers(0));
  rates.see(1000, numbers(10));
  assert.equal(momentOf(1000, numbers(10), rates).shed, 30);
});

test("a part of a counter has a row as soon as there is something in it", () => {
  const numbers = new Map([
    ["arrivals_total", 0],
    ["rejected_total", 5],
    ["rejected_total hot_caller", 5],
    ["rejected_total hold_full", 0],
    ["shadow_rejected_total", 0],
  ]);
  assert.deepEqual(
    rowsOf(numbers).map(({ key, name, of }) => [key, name, of]),
    [
      ["arrivals_total", "arrivals", undefined],
      ["rejected_total", "refused", undefined],
      ["rejected_total hot_caller", "hot_caller", "refused"],
      ["shadow_rejected_total", "refused in shadow", undefined],
    ],
  );
});

test("a number is written as it is read", () => {
  const all = [NaN, undefined, 0, 0.25, 7, 9.96, 12.4, 1820, 99_999_999, 1_234_567_890].map(written);
  assert.deepEqual(all, ["–", "–", "0", "0.3", "7", "10", "12", "1,820", "99,999,999", "1.23B"]);
});
