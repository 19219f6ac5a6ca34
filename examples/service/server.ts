/**
 * The service as a program. With a token, `--help` lists its flags and commands.
 *
 *     WEATHER_TOKEN=sesame deno task start
 *     WEATHER_TOKEN=sesame deno task start --help
 */

import { accessLog, run } from "@packline/packline";
import { createCommands } from "./commands.ts";
import { WeatherLog } from "./weather_log.ts";

const token = Deno.env.get("WEATHER_TOKEN");
if (!token) {
  console.error("Set WEATHER_TOKEN to the token that RECORD needs");
  Deno.exit(2);
}
const log = new WeatherLog(Deno.env.get("WEATHER_LOG") ?? "weather.jsonl");

export const commands = createCommands(log, token);

if (import.meta.main) {
  await run({
    commands,
    middleware: [accessLog()],
    // Workers inherit only the unrestricted permissions of this process, so the restricted ones are listed here.
    workerFlags: ["--allow-env=WEATHER_TOKEN,WEATHER_LOG", `--allow-read=${log.path}`, `--allow-write=${log.path}`],
  });
}
