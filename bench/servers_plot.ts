/**
 * Draws the plot of `servers.ts`: for each client, which servers answered in each second, and how long calls took, on a
 * logarithmic scale. The SVG has no script, and its colours follow the reader's light or dark theme.
 */

/** The servers of a run, in the order in which they are stacked. */
export const SERVER_NAMES = ["steady", "slow", "mortal", "new"] as const;

export type ServerName = typeof SERVER_NAMES[number];

/** The events of a run, and its end. A client asks for its servers every 30 s, so it knows the new one by `knownMs`. */
export const EVENTS = { killedMs: 10_000, backMs: 20_000, addedMs: 25_000, knownMs: 55_000, endMs: 65_000 };

/** A call of a run. */
export interface Call {
  /** When it began, from the start of the run. */
  readonly atMs: number;
  readonly tookMs: number;
  /** The server that answered; `undefined` if the call failed. */
  readonly server: ServerName | undefined;
}

/** All calls of one kind of client. */
export interface Run {
  readonly title: string;
  readonly calls: readonly Call[];
  /** How many calls were sent again, and how many second copies were sent. */
  readonly retried: number;
  readonly hedged: number;
}

const WIDTH = 820;
const LEFT = 60;
const RIGHT = 20;
const TOP = 60;
const SPREAD = 110;
const TIMES = 110;
const GAP = 40;
const GROUP = GAP + SPREAD + GAP / 2 + TIMES + GAP;
const SECONDS = EVENTS.endMs / 1_000;
/** The range of the times, in ms, as powers of ten. */
const [LEAST, MOST] = [0, 4];

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .faint { fill: #6e7781 } .label { text-anchor: end } .tick { text-anchor: middle }
  line { stroke: #d0d7de } .event { stroke: #6e7781; stroke-dasharray: 3 3 } path { fill: none; stroke-width: 1.5 }
  .steady { fill: #0969da } .slow { fill: #bf8700 } .mortal { fill: #8250df } .new { fill: #1a7f37 } .failed { fill: #cf222e }
  .p50 { stroke: #6e7781 } .p99 { stroke: #cf222e }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .faint { fill: #8d96a0 } line { stroke: #30363d } .event { stroke: #8d96a0 }
    .steady { fill: #4493f8 } .slow { fill: #d29922 } .mortal { fill: #ab7df8 } .new { fill: #3fb950 } .failed { fill: #f85149 }
    .p50 { stroke: #8d96a0 } .p99 { stroke: #f85149 }
  }`;

const x = (ms: number) => LEFT + (WIDTH - LEFT - RIGHT) * ms / EVENTS.endMs;

export function plotServers(runs: readonly Run[]): string {
  const height = TOP + runs.length * GROUP;
  const groups = runs.map((run, index) => drawRun(run, TOP + index * GROUP));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="The spread of calls over servers">
<style>${STYLE}
</style>
<text class="title" x="8" y="18">Which server answered, and how long calls took, by second</text>
${drawLegend()}
${groups.join("\n")}
</svg>
`;
}

function drawLegend(): string {
  const texts = {
    steady: "steady",
    slow: "slow by 50 ms",
    mortal: "killed, comes back",
    new: "added",
    failed: "failed",
  };
  return Object.entries(texts).map(([name, text], index) => {
    const at = 8 + 150 * index;
    return `<rect class="${name}" x="${at}" y="30" width="12" height="12"/><text x="${at + 18}" y="40">${text}</text>`;
  }).join("");
}

function drawRun({ title, calls }: Run, top: number): string {
  const seconds = Array.from(
    { length: SECONDS },
    (_, second) => calls.filter(({ atMs }) => Math.floor(atMs / 1_000) === second),
  );
  const most = Math.max(...seconds.map((calls) => calls.length));
  const spread = top + GAP;
  const times = spread + SPREAD + GAP / 2;
  const yOfTime = (ms: number) =>
    times + TIMES * (1 - Math.min(1, Math.max(0, (Math.log10(ms) - LEAST) / (MOST - LEAST))));
  const parts = [`<text class="title" x="8" y="${top + 12}">${title}</text>`];
  parts.push(`<text class="faint label" x="${LEFT - 6}" y="${spread + 10}">${most}/s</text>`);
  for (const [second, calls] of seconds.entries()) parts.push(drawSecond(second, calls, spread, SPREAD / most));
  for (let power = LEAST; power < MOST; power++) {
    const y = yOfTime(10 ** power).toFixed(1);
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/>`);
    parts.push(`<text class="faint label" x="${LEFT - 6}" y="${y}">${10 ** power} ms</text>`);
  }
  for (const [name, part] of [["p50", 0.5], ["p99", 0.99]] as const) {
    const points = seconds.map((calls, second) =>
      `${x(second * 1_000 + 500).toFixed(1)},${yOfTime(quantile(calls, part)).toFixed(1)}`
    );
    parts.push(`<path class="${name}" d="M${points.join("L")}"/>`);
    const [atX, atY] = points[points.length - 1].split(",");
    parts.push(`<text class="faint label" x="${Number(atX) + 14}" y="${Number(atY) - 4}">${name}</text>`);
  }
  for (const [ms, text] of [[EVENTS.killedMs, "killed"], [EVENTS.backMs, "back"], [EVENTS.addedMs, "added"]] as const) {
    parts.push(`<line class="event" x1="${x(ms)}" x2="${x(ms)}" y1="${spread - 4}" y2="${times + TIMES}"/>`);
    parts.push(`<text class="faint tick" x="${x(ms)}" y="${spread - 6}">${text}</text>`);
  }
  for (let second = 0; second <= SECONDS; second += 5) {
    parts.push(`<text class="faint tick" x="${x(second * 1_000)}" y="${times + TIMES + 14}">${second} s</text>`);
  }
  return parts.join("\n");
}

/** A bar of the calls that began in a second, stacked by server. */
function drawSecond(second: number, calls: readonly Call[], top: number, perCall: number): string {
  let bottom = top + SPREAD;
  return [...SERVER_NAMES, undefined].map((name) => {
    const height = perCall * calls.filter(({ server }) => server === name).length;
    bottom -= height;
    const [left, right] = [x(second * 1_000) + 0.25, x(second * 1_000 + 1_000) - 0.25];
    return height === 0
      ? ""
      : `<rect class="${name ?? "failed"}" x="${left.toFixed(1)}" y="${bottom.toFixed(1)}" width="${
        (right - left).toFixed(1)
      }" height="${height.toFixed(1)}"/>`;
  }).join("");
}

/** A quantile of the times; `NaN` without calls. */
export function quantile(calls: readonly Call[], part: number): number {
  const times = calls.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  return times[Math.floor(part * times.length)] ?? NaN;
}
