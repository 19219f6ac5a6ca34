/**
 * The panels of `dashboard.json`, and the results of their queries.
 *
 * In: the dashboard; the address of a Prometheus server; a time span. Out: the series of each panel. Refused, by an
 * error: a query that Prometheus does not accept.
 */

/** A query of a panel. */
export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
}

/** The properties of a panel that are used here. */
export interface Panel {
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig: { readonly defaults: { readonly unit: string } };
  readonly targets: readonly Target[];
}

/** One curve: times in seconds since the epoch, and values. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [seconds: number, value: number])[];
}

/** A time span in seconds since the epoch, and Grafana's value for `$__rate_interval`. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly step: number;
  readonly rateInterval: string;
}

/** The panels of the dashboard beside this file. */
export async function readPanels(): Promise<Panel[]> {
  const { panels } = JSON.parse(await Deno.readTextFile(new URL("dashboard.json", import.meta.url)));
  return panels;
}

/** A query as Grafana sends it if all jobs and servers are selected. */
export function expand(expr: string, rateInterval: string): string {
  return expr.replaceAll("$__rate_interval", rateInterval).replaceAll(/\$(job|instance)\b/g, ".*");
}

/** The series of a panel, in the order of its queries. */
export async function seriesOf({ targets }: Panel, prometheus: string, span: Span): Promise<Series[]> {
  const all: Series[] = [];
  for (const { expr, legendFormat } of targets) {
    const { start, end, step, rateInterval } = span;
    const query = new URLSearchParams({
      query: expand(expr, rateInterval),
      ...{ start: String(start), end: String(end), step: String(step) },
    });
    const response = await fetch(`${prometheus}/api/v1/query_range?${query}`);
    const { status, error, data } = await response.json();
    if (status !== "success") throw new Error(`Prometheus does not take ${expr}: ${error}`);
    for (const { metric, values } of data.result) {
      const name = legendFormat.replaceAll(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? "");
      all.push({ name, points: values.map(([seconds, value]: [number, string]) => [seconds, Number(value)]) });
    }
  }
  return all;
}
