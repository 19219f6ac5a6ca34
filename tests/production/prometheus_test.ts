/**
 * `examples/prometheus`: the alerts, judged by Prometheus' own `promtool`; the dashboard, held against what Grafana imports and
 * against what a server tells; and both with a server, an exporter and a Prometheus that run.
 */

import { assert, assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { parse } from "npm:deno-std@1.4.0/yaml/mod.js";
import { metricsOf } from "../../examples/prometheus/exporter.ts";
import { expand, type Panel, readPanels, seriesOf } from "../../examples/prometheus/panels.ts";
import { dashboardSvg } from "../../examples/prometheus/picture.ts";
import { command, connect, serve } from "../../mod.ts";
import { example, Folder, onFreePort, Program, root, run, startServer, testWith } from "./programs.ts";

const FOLDER = `${root}examples/prometheus`;

interface Rule {
  alert: string;
  expr: string;
}

const alerts = await example("prometheus/alerts.yml");
const rules: Rule[] = parse(alerts).groups[0].rules;
const dashboard = JSON.parse(await example("prometheus/dashboard.json"));
const panels = await readPanels();

/** The name of a family of metrics: what a histogram prints is one. */
const familyOf = (name: string) => name.replace(/(_seconds)_(bucket|sum|count)$/, "$1");

/** The families that a text uses. */
function familiesIn(text: string): Set<string> {
  return new Set([...text.matchAll(/\bpackline_[a-z_]+/g)].map(([name]) => familyOf(name)));
}

// The alerts ---------------------------------------------------------------------------------------------------------

testWith(["prometheus"], "promtool accepts examples/prometheus, and its tests of each alert pass", async () => {
  for (const args of [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"]]) {
    const { code, text } = await run("promtool", args, { cwd: FOLDER });
    assertEquals(code, 0, text);
    assert(!/warn|duplicate|FAILED/i.test(text), text);
  }
  const { code, text } = await run("promtool", ["test", "rules", "alerts_test.yml"], { cwd: FOLDER });
  assertEquals(code, 0, text);
});

Deno.test("each alert has a test in which it fires, and a time at which it does not", async () => {
  const { tests } = parse(await example("prometheus/alerts_test.yml"));
  const tested = (fires: boolean) =>
    tests.flatMap((each: { alert_rule_test: { alertname: string; exp_alerts?: unknown[] }[] }) =>
      each.alert_rule_test.filter(({ exp_alerts = [] }) => exp_alerts.length > 0 === fires)
    ).map(({ alertname }: { alertname: string }) => alertname);
  const names = rules.map(({ alert }) => alert);
  assertEquals(new Set(tested(true)), new Set(names));
  assertEquals(new Set(tested(false)), new Set(names));
});

testWith(["prometheus"], "the tests notice an alert that never fires, and one that always does", async () => {
  await using folder = await Folder.make();
  await folder.write("alerts_test.yml", await example("prometheus/alerts_test.yml"));
  const fails = async (changed: { groups: unknown }) => {
    await folder.write("alerts.yml", JSON.stringify(changed)); // which is YAML as well
    const { code } = await run("promtool", ["test", "rules", "alerts_test.yml"], { cwd: folder.path });
    return code !== 0;
  };
  assert(!await fails(parse(alerts)), "as it is, it passes");
  for (const [index, { alert, expr }] of rules.entries()) {
    const always = expr.trim().replace(/ (==|>) [\d.]+$/, "");
    assertNotEquals(always, expr.trim());
    for (const other of [`(${expr}) * 0 == 1`, `(${always}) >= 0`]) {
      const changed = parse(alerts);
      changed.groups[0].rules[index].expr = other;
      assert(await fails(changed), `${alert}: ${other}`);
    }
  }
});

// The dashboard ------------------------------------------------------------------------------------------------------

Deno.test("the dashboard has what Grafana imports: inputs, variables, panels in their places", () => {
  const { __inputs, __requires, schemaVersion, templating, id, uid, title } = dashboard;
  assertEquals(__inputs.map(({ name, type, pluginId }: Record<string, string>) => [name, type, pluginId]), [
    ["DS_PROMETHEUS", "datasource", "prometheus"],
  ]);
  assertEquals([schemaVersion, id, uid, title], [38, null, "packline", "packline"]);
  const types = new Set(dashboard.panels.map(({ type }: { type: string }) => type));
  const required = __requires.filter(({ type }: { type: string }) => type === "panel");
  assertEquals(new Set(required.map(({ id }: { id: string }) => id)), types);

  const datasource = { type: "prometheus", uid: "${DS_PROMETHEUS}" };
  for (const each of templating.list) assertEquals([each.type, each.datasource], ["query", datasource]);
  const variables = templating.list.map(({ name }: { name: string }) => `$${name}`);
  assertEquals(variables, ["$job", "$instance"]);
  const taken = new Set<string>();
  for (const { type, datasource: own, gridPos: { x, y, w, h }, targets, fieldConfig, options } of dashboard.panels) {
    assertEquals([type, own], ["timeseries", datasource]);
    assert(fieldConfig.defaults.unit && options.legend && options.tooltip);
    assert(x >= 0 && x + w <= 24, "Grafana's grid has 24 columns");
    for (let column = x; column < x + w; column++) {
      for (let row = y; row < y + h; row++) assert(!taken.has(`${column} ${row}`), "two panels in one place");
      for (let row = y; row < y + h; row++) taken.add(`${column} ${row}`);
    }
    const refIds = targets.map(({ refId }: { refId: string }) => refId);
    assertEquals(refIds, ["A", "B", "C"].slice(0, refIds.length));
    for (const { datasource: own, expr, legendFormat } of targets) {
      assertEquals(own, datasource);
      for (const variable of variables) assertStringIncludes(expr, `=~"${variable}"`);
      const grouped = expr.match(/\bby \(([^)]*)\)/)?.[1].split(", ") ?? ["instance"];
      for (const [, label] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) assert(grouped.includes(label), expr);
    }
  }
  const ids = dashboard.panels.map(({ id }: { id: number }) => id);
  assertEquals(new Set(ids).size, ids.length);
});

Deno.test("alerts and dashboard use what a server prints, and all of it is in the dashboard", async () => {
  await using server = await startServer();
  await using client = await connect({ port: server.port });
  await client.outcome.DELAY({ sleep: -1 }); // so that there is a failure
  const flags = ["--allow-net=127.0.0.1", `${root}client.ts`, "--port", String(server.port)];
  const { text } = await run(Deno.execPath(), ["run", "--no-prompt", ...flags, "STATS", "--format", "prometheus"]);
  const printed = new Set([...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name));
  assert(printed.size > 10, text);
  assertEquals(familiesIn(JSON.stringify(dashboard)), printed);
  const used = familiesIn(rules.map(({ expr }) => expr).join(" "));
  assertEquals([...used].filter((name) => !printed.has(name)), []);
  assertEquals([...familiesIn(await example("prometheus/alerts_test.yml"))].filter((name) => !used.has(name)), []);
});

// With all that runs -------------------------------------------------------------------------------------------------

/** Asks until the answer is good. */
async function eventually<T>(what: string, ask: () => Promise<T>, isGood: (answer: T) => boolean): Promise<T> {
  const endMs = performance.now() + 30_000;
  while (true) {
    const answer = await ask();
    if (isGood(answer)) return answer;
    if (performance.now() > endMs) throw new Error(`${what}: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

testWith(["prometheus"], "a Prometheus scrapes a server, and has series for every query of the dashboard", async () => {
  await using server = await startServer();
  await using client = await connect({ port: server.port });
  const exporterArgs = ["run", "--no-prompt", "--allow-net=127.0.0.1", `${FOLDER}/exporter.ts`];
  const addresses = [`127.0.0.1:${server.port}`, "127.0.0.1:0"];
  await using exporter = await Program.start(Deno.execPath(), [...exporterArgs, ...addresses], /^metrics of .*\n/m);
  const [, target] = await exporter.hear(/http:\/\/(.*)\/metrics\n/);
  await using folder = await Folder.make();
  await folder.write("alerts.yml", alerts);
  const replaced = { "15s": "100ms", "127.0.0.1:9235": target };
  await folder.write("prometheus.yml", await example("prometheus/prometheus.yml", replaced));
  const [address, program] = await onFreePort(async (port): Promise<[string, Program]> => {
    const files = [`--config.file=${folder.path}/prometheus.yml`, `--storage.tsdb.path=${folder.path}/data`];
    const args = [...files, `--web.listen-address=127.0.0.1:${port}`];
    return [`http://127.0.0.1:${port}`, await Program.start("prometheus", args, /ready to receive web requests/)];
  });
  await using _prometheus = program;
  const all = async () => {
    await client.call.PING();
    await client.outcome.DELAY({ sleep: -1 });
    const end = Date.now() / 1000;
    const span = { start: end - 2, end, step: 0.5, rateInterval: "1s" };
    return await Promise.all(panels.map(async (panel) => [panel, await seriesOf(panel, address, span)] as const));
  };
  const drawn = await eventually(
    "each panel has a series for each of its queries",
    all,
    (drawn) =>
      drawn.every(([{ targets }, series]) => series.length >= targets.length) &&
      // A rate is 0 until a counter has been seen twice.
      drawn.some(([, series]) =>
        series.some(({ name, points }) => name === "INVALID_SLEEP" && points.some(([, value]) => value > 0))
      ),
  );
  const svg = dashboardSvg(drawn, { start: 0, end: 1 }, "a < b");
  for (const { title } of panels) assertStringIncludes(svg, `>${title}</text>`);
  assertStringIncludes(svg, ">INVALID_SLEEP</text>");
  assertStringIncludes(svg, "a &lt; b");
  assert(!/NaN|undefined|Infinity/.test(svg), svg);

  // The rules are evaluated, and a server that is gone is noticed.
  const firing = async (): Promise<string[]> => {
    const { data } = await (await fetch(`${address}/api/v1/alerts`)).json();
    return data.alerts.map(({ labels, state }: { labels: { alertname: string }; state: string }) =>
      `${labels.alertname} ${state}`
    );
  };
  assert(!(await firing()).some((alert) => alert.startsWith("PacklineDown")));
  server.kill("SIGTERM");
  await eventually("PacklineDown", firing, (alerts) => alerts.includes("PacklineDown pending"));
});

Deno.test("the exporter's handler: the metrics, or a scrape that fails", async () => {
  const ask = async (statistics: () => unknown, path = "/metrics") => {
    const response = await metricsOf(statistics)(new Request(`http://127.0.0.1${path}`));
    return [response.status, await response.text()] as const;
  };
  await using server = await serve({ port: 0, maxConnections: 7, maxInFlightTotal: 8 });
  const [status, text] = await ask(() => server.statistics());
  assertEquals(status, 200);
  for (const line of ["draining 0", "max_connections 7", "max_handlers_running 8"]) {
    assertStringIncludes(text, `\npackline_${line}\n`);
  }
  assertEquals(await ask(() => server.statistics(), "/"), [404, "see /metrics\n"]);
  assertEquals(await ask(() => ({ calls: 1 })), [502, "the server answers STATS in its own way\n"]);
  assertEquals(await ask(() => Promise.reject(new Error("gone"))), [503, "Error: gone\n"]);
});

Deno.test("in the server's own program, the metrics tell of a shutdown while it lasts", async () => {
  const started = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const HOLD = command(async () => {
    started.resolve();
    await held.promise;
    return null;
  });
  const server = await serve({ port: 0, commands: { HOLD } });
  await using client = await connect({ port: server.port, commands: { HOLD } });
  const answer = metricsOf(() => server.statistics());
  const line = async () =>
    (await (await answer(new Request("http://a/metrics"))).text()).match(/^packline_draining .*/m)?.[0];
  const call = client.call.HOLD();
  await started.promise;
  assertEquals(await line(), "packline_draining 0");
  const shutdown = server.shutdown();
  assertEquals(await line(), "packline_draining 1");
  held.resolve();
  assertEquals([await call, (await shutdown).finished], [null, 1]);
});

Deno.test("the exporter reports no counts in which a worker is missing", async () => {
  const whole = { counted: [1, 2], silent: [] as number[] };
  const STATS = command((_params: object, { server }) => ({ ...server.statistics(), workers: whole }));
  await using server = await serve({ port: 0, commands: { STATS } });
  const args = ["run", "--no-prompt", "--allow-net=127.0.0.1", `${FOLDER}/exporter.ts`, `127.0.0.1:${server.port}`];
  await using exporter = await Program.start(Deno.execPath(), [...args, "127.0.0.1:0"], /^metrics of .*\n/m);
  const [, url] = await exporter.hear(/(http:.*)\n/);
  const scrape = async () => {
    const response = await fetch(url);
    return [response.status, await response.text()] as const;
  };
  const [status, text] = await scrape();
  assertEquals(status, 200);
  assertMatch(text, /^packline_calls_total\{command="STATS"\} \d+$/m);
  whole.silent.push(2);
  assertEquals(await scrape(), [503, "Error: no answer from worker 2\n"]);
});

Deno.test("examples/prometheus/README.md fits a screen and names each alert", async () => {
  const text = await example("prometheus/README.md");
  assert(text.trimEnd().split("\n").length <= 30);
  for (const { alert } of rules) assertStringIncludes(text, `\`${alert}\``);
});

Deno.test("a panel's query, as Grafana would send it", () => {
  const panel = panels[0] as Panel;
  assertEquals(
    expand(panel.targets[0].expr, "20s"),
    'sum by (command) (rate(packline_calls_total{job=~".*", instance=~".*"}[20s]))',
  );
});
