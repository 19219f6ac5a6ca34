/** Measurements in a file, one per line. Several processes may use the same file. A full disk may cut a line. */

/** One measurement. */
export interface Measurement {
  place: string;
  degrees: number;
  /** The station that measured. */
  station: string;
  /** When, as an ISO 8601 time. */
  at: string;
}

export class WeatherLog {
  /** @param path The file; it is created if it does not exist. */
  constructor(readonly path: string) {
    Deno.openSync(path, { append: true, create: true }).close();
  }

  async append(measurements: readonly Measurement[]): Promise<void> {
    // One write at the end of the file, so that lines of two processes do not mix. It begins with a newline, because the
    // write before may have been cut.
    const lines = measurements.map((measurement) => JSON.stringify(measurement) + "\n");
    await Deno.writeTextFile(this.path, "\n" + lines.join(""), { append: true });
  }

  async read(): Promise<Measurement[]> {
    const lines = (await Deno.readTextFile(this.path)).split("\n").slice(0, -1);
    return lines.flatMap(measurementIn);
  }

  /**
   * Yields measurements with their line numbers, which are the same in every process. It begins after the number
   * `after`, or with the last measurement, and continues with new measurements of all processes. If the signal aborts,
   * it throws the reason.
   */
  async *follow(signal: AbortSignal, after?: number): AsyncGenerator<{ number: number; measurement: Measurement }> {
    using watcher = Deno.watchFs(this.path);
    signal.addEventListener("abort", () => watcher[Symbol.dispose](), { once: true });
    const events = watcher[Symbol.asyncIterator]();
    let number = after;
    for (;;) {
      const measurements = await this.read();
      number ??= Math.max(0, measurements.length - 1);
      for (const measurement of measurements.slice(number)) yield { number: ++number, measurement };
      let event: IteratorResult<Deno.FsEvent>;
      do {
        signal.throwIfAborted();
        event = await events.next();
      } while (event.value?.kind !== "modify"); // reading is an event too
    }
  }
}

/** The measurement in a line; none in an empty or cut line. */
function measurementIn(line: string): Measurement[] {
  try {
    return [JSON.parse(line)];
  } catch {
    return [];
  }
}
