/**
 * Draws the plot: server CPU per call on a logarithmic scale, one row for each server in each work. The SVG has no
 * script, and its colours follow the reader's light or dark theme.
 */

import type { Results } from "./plans.ts";
import { STYLE } from "./style.ts";
import { PACKLINE } from "./subjects.ts";
import { figure, median } from "./table.ts";
import type { Row } from "./works.ts";

const WIDTH = 820;
const ROW = 18;
const TOP = 44;
const LEFT = 210;
const RIGHT = 80;

export function plot({ plan, samples }: Results): string {
  const groups = plan.works.map(({ title, rows }) => ({
    title: title.replaceAll("`", ""),
    rows: rows.map((row) => ({ row, cpu: median(samples.get(row)?.map(({ serverCpu }) => serverCpu)) }))
      .filter(({ cpu }) => cpu > 0),
  }));
  const all = groups.flatMap(({ rows }) => rows.map(({ cpu }) => cpu));
  const first = Math.floor(Math.log10(Math.min(...all)));
  const last = Math.ceil(Math.log10(Math.max(...all)));
  const x = (cpu: number) => LEFT + (WIDTH - LEFT - RIGHT) * (Math.log10(cpu) - first) / (last - first);
  const height = TOP + groups.reduce((sum, { rows }) => sum + (rows.length + 2) * ROW, 0);

  const parts: string[] = [];
  for (let power = first; power <= last; power++) {
    const at = x(10 ** power).toFixed(1);
    parts.push(`<line x1="${at}" x2="${at}" y1="${TOP}" y2="${height - ROW}"/>`);
    parts.push(`<text class="tick faint" x="${at}" y="${TOP - 6}">${10 ** power} µs</text>`);
  }
  let y = TOP + ROW;
  for (const { title, rows } of groups) {
    parts.push(`<text class="title" x="8" y="${y}">${title}</text>`);
    for (const bar of rows) parts.push(drawRow(bar, y += ROW, x(10 ** first), x(bar.cpu)));
    y += 2 * ROW;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Server CPU a call">
<style>${STYLE}
</style>
<text class="title" x="8" y="18">Server CPU a call (less is better; each line is ten times the one before)</text>
${parts.join("\n")}
</svg>
`;
}

function drawRow({ row, cpu }: { row: Row; cpu: number }, y: number, from: number, to: number): string {
  const own = row.subject === PACKLINE ? "own" : "";
  const middle = y - 4;
  return [
    `<text class="label" x="${LEFT - 10}" y="${y}">${row.name}</text>`,
    `<line class="stem ${own}" x1="${from}" x2="${to.toFixed(1)}" y1="${middle}" y2="${middle}"/>`,
    `<circle class="${own}" cx="${to.toFixed(1)}" cy="${middle}" r="5"/>`,
    `<text x="${(to + 10).toFixed(1)}" y="${y}">${figure(cpu)}</text>`,
  ].join("");
}
