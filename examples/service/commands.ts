/** The commands of the service. They get the log and the token as arguments, so that tests can bring their own. */

import { command, RpcError, tokens } from "@packline/packline";
import { z } from "zod";
import type { WeatherLog } from "./weather_log.ts";

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
        await log.append(measurement);
        return measurement;
      },
    }),

    LIST: command({
      summary: "Lists the last measurements of a place",
      params: ["place", "count"],
      async handler({ place, count = 10 }: { place: string; count?: number }) {
        const measurements = (await log.read()).filter((measurement) => measurement.place === place);
        if (measurements.length === 0) throw new RpcError("NO_SUCH_PLACE", `nobody has measured in ${place}`);
        return measurements.slice(-count);
      },
    }),

    WATCH: command({
      summary: "Streams the last measurement, then new ones",
      // Ends when its reader leaves; and when the server shuts down, so that the reader goes on elsewhere.
      handler: (_: object, { signal, draining }) => log.follow(AbortSignal.any([signal, draining])),
    }),
  };
}
