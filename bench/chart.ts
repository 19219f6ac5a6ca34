/**
 * Draws the bar chart of README: calls per second and CPU per call of the libraries that a Deno developer might choose,
 * from one client with 64 calls in flight. The SVG has no script, and its colours follow the reader's light or dark
 * theme.
 */

import type { Sample } from "./measure.ts";
import type { Results } from "./plans.ts";
import { STYLE } from "./style.ts";
import { figure, median } from "./table.ts";
import { CLIENT } from "./works.ts";

const WIDTH = 820;
const ROW = 24;
const TOP = 46;
const LABELS = 170;
const PANEL = (WIDTH - LABELS) / 2;
/** Room to the right of the longest bar, for its figure. */
const FIGURE = 70;

const ROWS = [CLIENT.packline, CLIENT.redis, CLIENT.webSocket, CLIENT.fetch, CLIENT.trpc, CLIENT.grpc];

const PANELS: readonly [title: string, pick: (sample: Sample) => number][] = [
  ["calls/s (more is better)", ({ callsPerSecond }) => callsPerSecond],
  ["µs of CPU a call, both ends (less is better)", ({ serverCpu, clientCpu }) => serverCpu + clientCpu],
];

export function chart({ samples }: Results): string {
  const rows = ROWS.filter((row) => samples.get(row)?.length);
  const parts = rows.map(({ name }, index) =>
    `<text class="label" x="${LABELS - 10}" y="${TOP + index * ROW + 13}">${name}</text>`
  );
  PANELS.forEach(([title, pick], panel) => {
    const left = LABELS + panel * PANEL;
    const figures = rows.map((row) => median(samples.get(row)?.map(pick)));
    const longest = Math.max(...figures);
    parts.push(`<text class="faint" x="${left}" y="${TOP - 10}">${title}</text>`);
    figures.forEach((value, index) => {
      const width = Math.max(1, (PANEL - FIGURE) * value / longest).toFixed(1);
      const y = TOP + index * ROW;
      const own = rows[index] === CLIENT.packline ? "own" : "stem";
      parts.push(`<rect class="${own}" x="${left}" y="${y}" width="${width}" height="${ROW - 6}" rx="2"/>`);
      parts.push(`<text x="${(left + Number(width) + 6).toFixed(1)}" y="${y + 13}">${figure(value)}</text>`);
    });
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${
    TOP + rows.length * ROW
  }" role="img" aria-label="Calls a second and CPU a call">
<style>${STYLE}
</style>
<text class="title" x="8" y="18">A key in, a text of 100 bytes out: one Deno client with 64 calls in flight</text>
${parts.join("\n")}
</svg>
`;
}
