/** The soak, for a few seconds: it ends well, and one whose server leaks does not. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { growth, type Sample } from "./samples.ts";

async function runSoak(...args: string[]): Promise<{ code: number; text: string }> {
  const path = new URL("soak.ts", import.meta.url).pathname;
  const flags = ["--quiet", "--no-check", "--allow-net=127.0.0.1", "--allow-run"];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, path, ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const [text, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(errors, "");
  return { code, text };
}

Deno.test("soak - a short one ends well; canary: one whose server leaks is caught", async () => {
  const [good, leaking] = await Promise.all([
    runSoak("--minutes", "0.1", "--held", "50", "--drains", "2"),
    runSoak("--minutes", "0.1", "--held", "5", "--drains", "0", "--broken", "leaking"),
  ]);
  console.log(good.text);
  assertEquals(good.code, 0);
  assertMatch(good.text, /lost: 0, crossed: 0, doubled: 0, untrue: 0/);
  assertMatch(good.text, /50 connections held, and each still answers/);
  assertMatch(good.text, /^2 drains under load: [1-9]\d* calls answered/m);
  assertMatch(good.text, /all is as promised\n$/);
  assert(
    good.text.match(/^ +0\.\d\d( +[\d.,]+){2} %( +[\d.,]+){7}$/gm)?.length ?? 0 >= 6,
    "the table has too few rows",
  );
  assertEquals(leaking.code, 1, leaking.text);
  assertMatch(leaking.text, /^growth: (timers|open files): /m);
});

Deno.test("soak - what has grown is what was more in the last third than in the middle one", () => {
  const sample = (minutes: number, changed: Partial<Sample>): Sample => ({
    ...{ minutes, calls: 1, faulty: 0, callsPerSecond: 1, p99Ms: 1, heapMiB: 1 },
    ...{ residentMiB: 100, files: 30, timers: 2, clientMiB: 100 },
    ...changed,
  });
  const series = (of: (index: number) => Partial<Sample>) => Array.from({ length: 24 }, (_, i) => sample(i, of(i)));
  assertEquals(growth(series(() => ({}))), []);
  // Memory that fills up at first, and files that come and go.
  assertEquals(growth(series((index) => ({ residentMiB: 150 - 100 / (index + 1), files: 30 + index % 8 }))), []);
  assertEquals(growth(series((index) => ({ residentMiB: 100 + 3 * index }))), [
    "growth: resident memory of the server in MiB: 145.0 in the middle third, 169.0 in the last",
  ]);
  assertEquals(growth(series((index) => ({ files: 30 + 5 * index, timers: index }))).length, 2);
  // In a minute, memory says nothing.
  assertEquals(growth(series((index) => ({ minutes: index / 24, residentMiB: 100 + 3 * index }))), []);
});
