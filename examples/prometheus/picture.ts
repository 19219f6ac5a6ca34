/**
 * Draws the dashboard without Grafana. It runs a server under load, an exporter and a real Prometheus, all on loopback.
 * Then it sends the queries of the dashboard to Prometheus, and writes the results to docs/dashboard.svg. This takes a
 * minute and a half:
 *
 *     deno task dashboard
 *
 * In: `dashboard.json`, `prometheus.yml`; `prometheus` must be installed. Out: the SVG. Refused: a query that
 * Prometheus does not accept.
 */

import { STYLE } from "../../bench/style.ts";
import { type Panel, readPanels, type Series, seriesOf, type Span } from "./panels.ts";

const root = new URL("../../", import.meta.url).pathname;

// Drawing -----------------------------------------------------------------------------------------------------------

const WIDTH = 960;
const TOP = 44;
/** The height of a row of Grafana's grid, and the room in a panel for its title, its axis and its legend. */
const ROW = 24;
const ABOVE = 26;
const BELOW = 40;
const LEFT = 46;
const GAP = 14;

const COLOURS = ["0969da", "bf8700", "1a7f37", "cf222e", "8250df", "0a7d91"];
const DARK_COLOURS = ["4493f8", "d29922", "3fb950", "f85149", "ab7df8", "39c5cf"];
const rules = (colours: string[]) =>
  colours.map((colour, index) => `polyline.c${index} { stroke: #${colour} } text.c${index} { fill: #${colour} }`).join(
    "\n  ",
  );
const CURVES = `
  text { font-size: 11px } .title { font-size: 12px } polyline { fill: none; stroke-width: 1.5 }
  ${rules(COLOURS)}
  @media (prefers-color-scheme: dark) {
  ${rules(DARK_COLOURS)}
  }`;

const FORMATS: Record<string, (value: number) => string> = {
  percentunit: (value) => `${figure(100 * value)} %`,
  s: (value) => value < 1 ? `${figure(1000 * value)} ms` : `${figure(value)} s`,
  Bps: (value) => `${figure(value / 1000)} kB`,
};

function figure(value: number): string {
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

/** The next of 1, 2, 5, 10, 20, ... that is not smaller. */
function roundUp(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5].find((step) => value <= step * power * 1.01) ?? 10);
}

/**
 * The SVG of all panels with their series over a span of time. A series that is 0 throughout is left out.
 *
 * @param drawn The panels.
 * @param span The time span of each panel, from left to right.
 * @param note A description of the run.
 */
export function dashboardSvg(
  drawn: readonly (readonly [Panel, readonly Series[]])[],
  span: Pick<Span, "start" | "end">,
  note: string,
): string {
  const bottom = Math.max(...drawn.map(([{ gridPos: { y, h } }]) => y + h));
  const height = TOP + bottom * ROW;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="The dashboard of a server under load">
<style>${STYLE}${CURVES}
</style>
<text class="title" x="8" y="18">The dashboard's queries, asked of Prometheus</text>
<text class="faint" x="8" y="34">${escape(note)}</text>
${drawn.map(([panel, series]) => drawPanel(panel, series, span)).join("\n")}
</svg>
`;
}

function drawPanel(
  { title, gridPos, fieldConfig }: Panel,
  all: readonly Series[],
  { start, end }: Pick<Span, "start" | "end">,
): string {
  const left = gridPos.x / 24 * WIDTH + LEFT;
  const right = (gridPos.x + gridPos.w) / 24 * WIDTH - GAP;
  const top = TOP + gridPos.y * ROW + ABOVE;
  const bottom = TOP + (gridPos.y + gridPos.h) * ROW - BELOW;
  const series = all.filter(({ points }) => points.some(([, value]) => value > 0));
  const format = FORMATS[fieldConfig.defaults.unit] ?? figure;
  const values = series.flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite);
  const most = roundUp(values.reduce((high, value) => Math.max(high, value), 0));
  const x = (seconds: number) => (left + (right - left) * (seconds - start) / (end - start)).toFixed(1);
  const y = (value: number) => (bottom - (bottom - top) * value / most).toFixed(1);
  const parts = [`<text class="title" x="${left - LEFT + 8}" y="${top - 10}">${escape(title)}</text>`];
  for (const value of [0, most / 2, most]) {
    parts.push(`<line x1="${left}" x2="${right}" y1="${y(value)}" y2="${y(value)}"/>`);
    parts.push(`<text class="label faint" x="${left - 5}" y="${Number(y(value)) + 4}">${format(value)}</text>`);
  }
  let [at, line] = [left, bottom + 16];
  for (const [index, { name, points }] of series.entries()) {
    const colour = `c${index % COLOURS.length}`;
    for (const run of runsOf(points)) {
      const path = run.map(([seconds, value]) => `${x(seconds)},${y(value)}`).join(" ");
      parts.push(`<polyline class="${colour}" points="${path}"/>`);
    }
    const width = 7 * name.length;
    if (at + width > right) [at, line] = [left, line + 14];
    parts.push(`<text class="${colour}" x="${at.toFixed(0)}" y="${line}">${escape(name)}</text>`);
    at += width + 12;
  }
  return parts.join("\n");
}

/** The points without the gaps between them. A gap is NaN, from a division by zero. */
function runsOf(points: Series["points"]): Series["points"][] {
  const runs: (readonly [number, number])[][] = [[]];
  for (const point of points) {
    if (Number.isFinite(point[1])) runs.at(-1)?.push(point);
    else runs.push([]);
  }
  return runs.filter((run) => run.length > 0);
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// The run -----------------------------------------------------------------------------------------------------------

/** A process that ends with this one. */
class Started implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;

  constructor(program: string, args: string[]) {
    this.#child = new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
  }

  /** Waits for a pattern in the output, and returns its first group. The rest of the output is read and dropped. */
  async says(stream: "stdout" | "stderr", pattern: RegExp): Promise<string> {
    const texts = this.#child[stream].pipeThrough(new TextDecoderStream());
    const reader = texts.getReader();
    let said = "";
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      said += next.value;
      const match = said.match(pattern);
      if (!match) continue;
      reader.releaseLock();
      void texts.pipeTo(new WritableStream()); // a program with unread output would wait
      return match[1];
    }
    throw new Error(`it has ended: ${said}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // The process has already ended.
    }
    await this.#child.status;
  }
}

const deno = (...args: string[]) =>
  new Started(Deno.execPath(), ["run", "--quiet", "--no-prompt", "--allow-net=127.0.0.1", ...args]);

const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

const SECONDS = 75;

/** When each load starts, how long it lasts, and the arguments of `client.ts --bench`. */
const LOADS: [from: number, seconds: number, args: string][] = [
  [5, 65, "PING -c 20 --rate 500"],
  [5, 65, "ECHO data=0123456789abcdef0123456789abcdef -c 5 --rate 200"],
  [15, 20, "DELAY sleep=0.05 -c 40 -P 4 --rate 1500"],
  [30, 15, "DELAY sleep=-1 -c 2 --rate 150"], // INVALID_SLEEP
  [45, 15, "DELAY sleep=0.2 -c 80 -P 8 --rate 2600"], // OVERLOADED: 400 may be in flight, so 2,000 a second
  [60, 10, "DELAY sleep=0.5 -c 10 --rate 40 --timeout 0.3"], // DEADLINE_EXCEEDED
];

const FLAGS = ["--max-in-flight-total", "400", "--max-connections", "200"];

if (import.meta.main) {
  const folder = await Deno.makeTempDir({ prefix: "packline-dashboard-" });
  try {
    await using server = deno(`${root}server.ts`, "--port", "0", ...FLAGS);
    const port = await server.says("stdout", /:(\d+)\n/);
    await using exporter = deno(`${root}examples/prometheus/exporter.ts`, `127.0.0.1:${port}`, "127.0.0.1:0");
    const metrics = await exporter.says("stdout", /:(\d+)\/metrics\n/);
    const config = await Deno.readTextFile(new URL("prometheus.yml", import.meta.url));
    await Deno.copyFile(new URL("alerts.yml", import.meta.url), `${folder}/alerts.yml`);
    await Deno.writeTextFile(
      `${folder}/prometheus.yml`,
      config.replaceAll("15s", "2s").replace("127.0.0.1:9235", `127.0.0.1:${metrics}`),
    );
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const address = `127.0.0.1:${listener.addr.port}`;
    listener.close();
    await using prometheus = new Started("prometheus", [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=${address}`,
    ]);
    await prometheus.says("stderr", /(ready to receive web requests)/);
    const start = Date.now() / 1000;
    await Promise.all(LOADS.map(async ([from, seconds, args]) => {
      await sleep(from);
      await using load = deno(`${root}client.ts`, "--bench", ...args.split(" "), "-z", String(seconds), "-p", port);
      console.log(`from ${from} s, for ${seconds} s: ${args}`);
      await load.says("stdout", /(\n)/);
    }));
    await sleep(SECONDS - (Date.now() / 1000 - start));
    const span = { start: start + 5, end: start + SECONDS, step: 1, rateInterval: "8s" };
    const drawn: [Panel, Series[]][] = [];
    for (const panel of await readPanels()) drawn.push([panel, await seriesOf(panel, `http://${address}`, span)]);
    const version = await new Started("prometheus", ["--version"]).says("stdout", /version (\S+?)[+,]/);
    const note = `One server with ${FLAGS.join(" ")} for ${SECONDS} s under client.ts --bench, on ${
      new Date().toISOString().slice(0, 10)
    }; Prometheus ${version}, a scrape every 2 s.`;
    await Deno.writeTextFile(`${root}docs/dashboard.svg`, dashboardSvg(drawn, span, note));
    console.log("docs/dashboard.svg");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
