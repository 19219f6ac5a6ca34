/**
 * Draws the plot of more load than a server can handle. For each number of connections, it shows useful answers per
 * second above, and the time of 99 % of all answers below, over the offered load, with one curve for each checkout.
 */

import type { OpenSample } from "./open_load.ts";
import { STYLE } from "./style.ts";
import { median } from "./table.ts";

/** The samples of one step. */
export interface Step {
  side: string;
  connections: number;
  load: number;
  samples: OpenSample[];
}

/** The median of a figure over the rounds. */
export function middleOf({ samples }: Step, pick: (sample: OpenSample) => number): number {
  return median(samples.map(pick));
}

const WIDTH = 820;
const TOP = 44;
const LEFT = 52;
const GAP = 24;
const PANEL_HEIGHT = 130;
const ROW = 190;

const CURVES = `
  polyline { fill: none; stroke: #8c959f; stroke-width: 2 } polyline.own { fill: none } .limit { stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) { polyline { stroke: #7d8590 } }`;

/** Answers later than this multiple of the deadline are drawn at the upper edge. */
const MOST_DEADLINES = 3;

/** The SVG. */
export function overloadPlot(steps: readonly Step[], capacity: number, deadlineMs: number): string {
  const panels = [...Map.groupBy(steps, ({ connections }) => connections)];
  const width = (WIDTH - LEFT - 8 - (panels.length - 1) * GAP) / panels.length;
  const parts: string[] = [];
  for (const [index, [connections, ofPanel]] of panels.entries()) {
    const left = LEFT + index * (width + GAP);
    const title = `${connections} connection${connections === 1 ? "" : "s"}`;
    parts.push(`<text class="title" x="${left.toFixed(1)}" y="${TOP + 14}">${title}</text>`);
    const most = Math.max(...ofPanel.map(({ load }) => load));
    const draw = (row: number, highest: number, limit: number, valueOf: (step: Step) => number) => {
      const bottom = TOP + 24 + PANEL_HEIGHT + row * ROW;
      const x = (load: number) => (left + width * load / most).toFixed(1);
      const y = (value: number) => (bottom - PANEL_HEIGHT * Math.min(value, highest) / highest).toFixed(1);
      parts.push(`<line x1="${x(0)}" x2="${x(most)}" y1="${bottom}" y2="${bottom}"/>`);
      parts.push(`<line class="limit" x1="${x(0)}" x2="${x(most)}" y1="${y(limit)}" y2="${y(limit)}"/>`);
      for (let load = 0; load <= most; load++) {
        parts.push(`<text class="tick faint" x="${x(load)}" y="${bottom + 16}">${load}</text>`);
      }
      for (const value of index === 0 ? [0, limit, highest] : []) {
        parts.push(`<text class="label faint" x="${LEFT - 8}" y="${Number(y(value)) + 4}">${value}</text>`);
      }
      for (const [side, curve] of Map.groupBy(ofPanel, ({ side }) => side)) {
        const points = curve.flatMap((step) => {
          const value = valueOf(step);
          return Number.isFinite(value) ? `${x(step.load)},${y(value)}` : [];
        });
        parts.push(`<polyline class="${side === "now" ? "own" : ""}" points="${points.join(" ")}"/>`);
      }
    };
    draw(0, 1.2 * capacity, capacity, (step) => middleOf(step, ({ useful }) => useful));
    draw(1, MOST_DEADLINES * deadlineMs, deadlineMs, (step) => middleOf(step, ({ p99 }) => p99));
  }
  const height = TOP + 2 * ROW + 24;
  const note = (row: number, text: string) =>
    `<text class="faint" x="${LEFT}" y="${TOP + 24 + PANEL_HEIGHT + row * ROW + 34}">${text}</text>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Useful answers over the offered load">
<style>${STYLE}${CURVES}
</style>
<text class="title" x="8" y="18">More load than a server can carry: blue is now, grey is before</text>
${note(0, "Useful answers per second, over the offered load (1 is the capacity, the dashed line)")}
${
    note(
      1,
      `p99 of all answers in ms; the dashed line is the deadline, ${MOST_DEADLINES * deadlineMs} ms stands for more`,
    )
  }
${parts.join("\n")}
</svg>
`;
}
