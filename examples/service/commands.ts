/** The commands of the service. They get the log and the token as arguments, so that tests can pass their own. */

import { command, RpcError, tokens, tracked } from "@packline/packline";
import { z } from "zod";
import type { Measurement, WeatherLog } from "./weather_log.ts";

/** The maximum length of an archive, which is held in memory until it is complete. */
const MAX_ARCHIVE = 100_000;

const measured = z.object({
  place: z.string().trim().min(1).max(100),
  degrees: z.number().min(-100).max(100),
});

export function createCommands(log: WeatherLog, token: string) {
  const authenticated = command.with(tokens({ [token]: { station: "roof" } }));
  return {
    RECORD: authenticated({
      summary: "Records a temperature; needs a token",
      schema: measured,
      async handler({ place, degrees }, { user }) {
        const measurement = { place, degrees, station: user.station, at: new Date().toISOString() };
        await log.append([measurement]);
        return measurement;
      },
    }),

    IMPORT: authenticated({
      summary: "Records a stream of measurements with their times, all or none; needs a token",
      items: measured.extend({ at: z.iso.datetime() }),
      errors: { ARCHIVE_TOO_LARGE: null },
      async handler(_: object, { items, user }) {
        const archive: Measurement[] = [];
        // If an item is invalid, or the caller's stream breaks off, the loop throws, and nothing is recorded.
        for await (const item of items) {
          if (archive.length === MAX_ARCHIVE) throw new RpcError("ARCHIVE_TOO_LARGE", `send ${MAX_ARCHIVE} at most`);
          archive.push({ ...item, station: user.station });
        }
        await log.append(archive);
        return { recorded: archive.length };
      },
    }),

    LIST: command({
      summary: "Lists the last measurements of a place",
      schema: z.object({ place: z.string(), count: z.int().positive().default(10) }),
      errors: { NO_SUCH_PLACE: null },
      async handler({ place, count }) {
        const measurements = (await log.read()).filter((measurement) => measurement.place === place);
        if (measurements.length === 0) throw new RpcError("NO_SUCH_PLACE", `nobody has measured in ${place}`);
        return measurements.slice(-count);
      },
    }),

    WATCH: command({
      summary: "Streams the last measurement, then new ones; its reader goes on after a restart",
      schema: z.object({ after: z.int().nonnegative().optional() }),
      async *handler({ after }, { signal, draining }) {
        // Ends when the reader leaves, or when the server shuts down. Then the reader resumes elsewhere, after `after`.
        const measurements = log.follow(AbortSignal.any([signal, draining]), after);
        for await (const { number, measurement } of measurements) yield tracked(number, measurement);
      },
    }),
  };
}
