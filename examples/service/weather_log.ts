/** Measurements in a file, one a line. Several processes may use the same file. */

/** One measurement. */
export interface Measurement {
  place: string;
  degrees: number;
  /** Who measured. */
  station: string;
  /** When, as an ISO 8601 time. */
  at: string;
}

export class WeatherLog {
  /** @param path The file; it is created if it does not exist. */
  constructor(readonly path: string) {
    Deno.openSync(path, { append: true, create: true }).close();
  }

  async append(measurement: Measurement): Promise<void> {
    // One write at the end of the file, so that lines of two processes do not mix.
    await Deno.writeTextFile(this.path, JSON.stringify(measurement) + "\n", { append: true });
  }

  async read(): Promise<Measurement[]> {
    const lines = (await Deno.readTextFile(this.path)).split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line));
  }

  /** The last measurement, then new ones as they come, whichever process adds them, until the signal is aborted; then it throws the reason. */
  async *follow(signal: AbortSignal): AsyncGenerator<Measurement> {
    using watcher = Deno.watchFs(this.path);
    signal.addEventListener("abort", () => watcher[Symbol.dispose](), { once: true });
    let measurements = await this.read();
    yield* measurements.slice(-1);
    signal.throwIfAborted();
    for await (const { kind } of watcher) {
      if (kind !== "modify") continue; // reading is an event too
      const known = measurements.length;
      measurements = await this.read();
      yield* measurements.slice(known);
    }
    signal.throwIfAborted();
  }
}
