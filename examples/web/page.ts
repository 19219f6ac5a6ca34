/// <reference lib="dom" />
/** The code of the page: a chart that is fed by a stream, and an upload. */

import { connect } from "../../client/web.ts";
import type { commands } from "./server.ts";

const MOST_POINTS = 150;
const PAUSE_MS = 1_000;

const find = <E extends Element>(id: string) => document.getElementById(id) as unknown as E;

const client = await connect<typeof commands>({
  url: `${location.origin.replace("http", "ws")}/rpc`,
  lazy: true,
  onState: (state) => find<HTMLElement>("state").textContent = state,
});

const points: { tick: number; price: number }[] = [];

function showPrice(point: { tick: number; price: number }): void {
  points.push(point);
  if (points.length > MOST_POINTS) points.shift();
  const [{ tick: first }] = points;
  find<SVGPolylineElement>("line").setAttribute(
    "points",
    points.map(({ tick, price }) => `${4 * (tick - first)},${2 * (120 - price)}`).join(" "),
  );
  find<HTMLElement>("price").textContent = point.price.toFixed(2);
  find<HTMLElement>("count").textContent = `${1 + Number(find<HTMLElement>("count").textContent)}`;
}

/** The stream goes on by itself after a short outage. After a long one it has failed, and the next one goes on. */
async function showPrices(): Promise<never> {
  while (true) {
    try {
      for await (const point of client.stream.PRICES({ after: points.at(-1)?.tick })) showPrice(point);
    } catch (error) {
      console.warn(`The prices are interrupted: ${error}`);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

async function upload(file: File): Promise<void> {
  const bar = find<HTMLProgressElement>("bar");
  const said = find<HTMLElement>("said");
  const items = file.stream() as unknown as AsyncIterable<Uint8Array>;
  const progress = client.stream.STORE({ size: file.size }, { items });
  for (let step = await progress.next();; step = await progress.next()) {
    bar.value = step.done ? 1 : step.value.part;
    said.textContent = `${step.value.received.toLocaleString("en")} bytes of ${file.name}`;
    if (step.done) return void (said.textContent += ": done");
  }
}

find<HTMLInputElement>("file").addEventListener("change", ({ target }) => {
  const [file] = (target as HTMLInputElement).files ?? [];
  if (file) upload(file).catch((error) => find<HTMLElement>("said").textContent = String(error));
});
await showPrices();
